/**
 * What a page and the server say to each other about a queue: one request at a time, what was done first.
 *
 * What passes (no answer, an ended session, a server that is overloaded) is tried again, later each time. An act that
 * the server refuses for good is put aside, in sight of the person, and the others go on. Acts belong to whom the
 * server knew when they were done: if somebody else logs in in this browser, they are kept for that person.
 */

import { ApiError, type HandedRows, type QueueView } from "../api/client";
import { type Act, type LabelValue, type Session, acted, beginning, confirmed, discarded, handed, resent, sent, setAside, undone } from "../core/labelling";
import { type KeptAct, keepOutbox, keptForOthers, readOutbox } from "../core/outbox";

export const AHEAD = 10;
const ASK_BELOW = 4;
const MOST_SENT = 100;
const MOST_HELD = 50;
const FIRST_PAUSE = 3000;
const LONGEST_PAUSE = 60_000;
/** How long a server that had no new row is left alone, unless something changes. */
export const QUIET = 60_000;
/** How often rows in front of a person who is there are kept for them; the server keeps them for ten minutes. */
export const RENEW = 180_000;
/** Refusals that do not pass by repeating. */
const FOR_GOOD = new Set([400, 404, 409, 410, 413, 422]);
const OTHER_USER = "OtherUserError";

/** The server, as far as a queue needs it. */
export interface QueueServer {
  handOut: (name: string, rows: number, holding: readonly string[]) => Promise<HandedRows>;
  keepLabels: (name: string, who: string, given: readonly Act[]) => Promise<{ queue: QueueView }>;
}

export interface QueueSnapshot {
  session: Session;
  view: QueueView;
  /** Why the server does not answer; empty: it does. */
  error: string;
  /** Whether it is known what an earlier page has left to send. */
  isReady: boolean;
  /** Whether nothing is left to hand out. */
  isOver: boolean;
  /** Whether the browser keeps what is not sent; if not, it is lost with the page. */
  isKept: boolean;
  /** Who labels; empty: not known yet. */
  who: string;
  /** How much of other people waits in this browser until they log in, by person. */
  others: ReadonlyMap<string, number>;
}

export class QueueTalk {
  private shown: QueueSnapshot;
  private readonly name: string;
  private readonly listeners = new Set<() => void>();
  private readonly mine = new Set<string>();
  /** Acts of people who were logged in before, by person: the storage may be full. */
  private readonly parted = new Map<string, readonly KeptAct[]>();
  private isOpen = false;
  private isBusy = false;
  private failures = 0;
  private most = MOST_SENT;
  private quietUntil = 0;
  private pause: ReturnType<typeof setTimeout> | undefined;
  private quiet: ReturnType<typeof setTimeout> | undefined;
  private renewal: ReturnType<typeof setInterval> | undefined;
  private isRenewing = false;

  /** @param isActive Whether a person is at the page: rows are kept, and asked for again, only then. */
  constructor(
    view: QueueView,
    private readonly server: QueueServer,
    private readonly isActive: () => boolean,
  ) {
    this.name = view.queue.name;
    this.shown = { session: beginning([]), view, error: "", isReady: false, isOver: false, isKept: true, who: "", others: new Map() };
  }

  readonly snapshot = (): QueueSnapshot => this.shown;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => { this.listeners.delete(listener); };
  };

  /** Begin to talk; @return what ends it. */
  readonly start = (): (() => void) => {
    this.isOpen = true;
    this.renewal = setInterval(() => {
      this.isRenewing = this.isActive() && this.shown.session.rows.length > 0;
      this.pump();
    }, RENEW);
    this.pump();
    return () => {
      this.isOpen = false;
      clearTimeout(this.pause);
      clearTimeout(this.quiet);
      clearInterval(this.renewal);
      this.pause = undefined;
    };
  };

  readonly act = (action: "label" | "skip", value: LabelValue | null): void => {
    this.change(acted(this.shown.session, newId(), action, value));
  };

  readonly undo = (): void => { this.change(undone(this.shown.session, newId())); };

  /** Send once more what the server did not accept. */
  readonly resend = (id: string): void => { this.change(resent(this.shown.session, id)); };

  readonly discard = (id: string): void => { this.change(discarded(this.shown.session, id)); };

  /** Ask again whether there is a row: others may have given theirs up. */
  readonly lookAgain = (): void => {
    this.show({ isOver: false });
    this.wake();
  };

  /** The person is back: what waits for its time is done now. */
  readonly wake = (): void => {
    clearTimeout(this.pause);
    this.pause = undefined;
    this.quietUntil = 0;
    this.pump();
  };

  private change(session: Session): void {
    if (session === this.shown.session) return;
    this.keep(session);
    this.pump();
  }

  private show(changes: Partial<QueueSnapshot>): void {
    this.shown = { ...this.shown, ...changes };
    for (const listener of this.listeners) listener();
  }

  private keep(session: Session): void {
    const { who } = this.shown;
    const isKept = who === "" || keepOutbox(who, this.name, [...session.refused, ...session.outbox], this.mine);
    this.show({ session, isKept });
  }

  /** Say the next thing that is to be said, if nothing is being said. */
  private pump(): void {
    if (!this.isOpen || this.isBusy || this.pause !== undefined) return;
    const next = this.next();
    if (next === null) return;
    this.isBusy = true;
    next().then(
      () => {
        this.isBusy = false;
        this.failures = 0;
        if (this.shown.error !== "") this.show({ error: "" });
        this.pump();
      },
      (problem: unknown) => {
        this.isBusy = false;
        if (!(problem instanceof ApiError)) throw problem;
        this.show({ error: problem.message });
        if (!this.isOpen) return;
        const wait = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures);
        this.failures += 1;
        this.pause = setTimeout(() => {
          this.pause = undefined;
          this.pump();
        }, wait);
      },
    );
  }

  private next(): (() => Promise<void>) | null {
    const { session, who } = this.shown;
    // First what was done: what is handed out then does not have these rows in it.
    if (who !== "" && session.outbox.length > 0) return () => this.send(who, session.outbox.slice(0, this.most));
    if (session.rows.length < ASK_BELOW && Date.now() >= this.quietUntil) return () => this.ask(AHEAD);
    return this.isRenewing ? () => this.ask(0) : null;
  }

  private async send(who: string, acts: readonly Act[]): Promise<void> {
    try {
      const { queue } = await this.server.keepLabels(this.name, who, acts);
      this.most = Math.min(MOST_SENT, 2 * this.most);
      this.quietUntil = 0;
      this.show({ view: queue });
      this.keep(sent(this.shown.session, acts));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      if (problem.body?.kind === OTHER_USER) return this.ask(AHEAD);
      if (!isForGood(problem)) throw problem;
      // The server keeps all or nothing: halves of it show which act it does not accept. Of a queue that is gone, all.
      if (acts.length > 1 && problem.status !== 404) this.most = Math.ceil(acts.length / 2);
      else this.keep(setAside(this.shown.session, acts, problem.message));
      this.quietUntil = 0;
    }
  }

  /** Ask for rows; those in front of the person are kept for them. */
  private async ask(rows: number): Promise<void> {
    this.isRenewing = false;
    const holding = this.shown.session.rows.slice(0, MOST_HELD).map(({ key }) => key);
    const found = await this.server.handOut(this.name, rows, holding);
    if (found.who !== this.shown.who) this.arrive(found.who);
    const before = confirmed(this.shown.session, new Set(holding), found.rows);
    const session = handed(before, found.rows);
    this.show({ session, view: found.queue });
    if (rows === 0) return;
    const isOver = found.rows.length < rows || session === before;
    if (isOver) this.beQuiet();
    this.show({ isOver });
  }

  /** Begin as the person who is logged in now, with what an earlier page of theirs has left. */
  private arrive(who: string): void {
    const { session, who: before } = this.shown;
    if (before !== "") this.parted.set(before, [...session.refused, ...session.outbox]);
    const left = readOutbox(who, this.name);
    const known = new Set(left.map(({ id }) => id));
    left.push(...(this.parted.get(who) ?? []).filter(({ id }) => !known.has(id)));
    this.parted.delete(who);
    for (const { id } of left) this.mine.add(id);
    const others = keptForOthers(who, this.name);
    for (const [other, acts] of this.parted) if (acts.length > 0 && !others.has(other)) others.set(other, acts.length);
    this.show({ session: beginning(left), who, others, isReady: true });
  }

  private beQuiet(): void {
    this.quietUntil = Date.now() + QUIET;
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => { if (this.isActive()) this.pump(); }, QUIET);
  }
}

/** Whether a refusal stays the same however often the request is repeated. */
function isForGood(problem: ApiError): boolean {
  if (!FOR_GOOD.has(problem.status) || problem.body?.retry === true) return false;
  // A server that is just starting, or a proxy before it, does not know the route yet; modelmill says which queue it misses.
  return problem.status !== 404 || problem.body !== null;
}

/** An id that no other act has. Not randomUUID, which a page without TLS does not have. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
