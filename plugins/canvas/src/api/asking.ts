/** A question that is asked again and again: the answer to the newest one counts. */

export class Asking<T> {
  private newest = 0;
  private answered = 0;

  constructor(
    private readonly ask: () => Promise<T>,
    private readonly taken: (data: T) => void,
    private readonly failed: (problem: unknown) => void,
  ) {}

  /** Ask now; an answer that is still on its way is for nobody any more. */
  again(): void {
    this.newest += 1;
    const round = this.newest;
    const settled = (say: () => void): void => {
      if (round !== this.newest) return;
      this.answered = round;
      say();
    };
    this.ask().then(
      (data) => { settled(() => { this.taken(data); }); },
      (problem: unknown) => { settled(() => { this.failed(problem); }); },
    );
  }

  /** Ask unless an answer is on its way: a server that needs longer than the pause would never be heard. */
  poll(): void {
    if (this.answered === this.newest) this.again();
  }

  /** Listen to no answer any more. */
  stop(): void {
    this.newest += 1;
    this.answered = this.newest;
  }
}
