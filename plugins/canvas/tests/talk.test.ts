/** A page at a queue, and a server that refuses, is away, or has somebody else logged in. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { ApiError, type ErrorBody, type HandedRows, type QueueView } from "../src/api/client";
import type { Act, LabelRow } from "../src/core/labelling";
import { readOutbox } from "../src/core/outbox";
import { AHEAD, QUIET, type QueueServer, QueueTalk, RENEW } from "../src/labelling/talk";

const row = (key: string): LabelRow => ({ key, text: key, label: null, suggestion: null, why: "", second: false });
const VIEW = { queue: { name: "q" } } as QueueView;
const body = (kind: string, retry = false): ErrorBody => ({ kind, message: kind, rule: kind, got: null, remedy: "", retry, problems: [], conflict: null });

/** A server of one queue: keeps all of a request or nothing, each act once, for the person who is logged in. */
class Server implements QueueServer {
  who = "ada";
  readonly kept: [string, Act][] = [];
  readonly asked: { rows: number; holding: readonly string[] }[] = [];
  sends = 0;
  isEndless = false;
  /** Thrown by the next requests, the first one first. */
  failing: ApiError[] = [];
  refuses: (act: Act) => ApiError | null = () => null;

  constructor(public rows: readonly string[]) {}

  async handOut(_name: string, rows: number, holding: readonly string[]): Promise<HandedRows> {
    await this.answer();
    this.asked.push({ rows, holding });
    const settled = new Set(this.kept.map(([, { key }]) => key));
    const open = this.rows.filter((key) => this.isEndless || !settled.has(key));
    const held = holding.filter((key) => open.includes(key));
    const found = [...held, ...open.filter((key) => !held.includes(key))].slice(0, Math.max(rows, held.length));
    return { who: this.who, rows: found.map(row), queue: VIEW };
  }

  async keepLabels(_name: string, who: string, given: readonly Act[]): Promise<{ queue: QueueView }> {
    this.sends += 1;
    await this.answer();
    if (who !== this.who) throw new ApiError(409, body("OtherUserError"), "another");
    for (const act of given) {
      const refusal = this.refuses(act);
      if (refusal !== null) throw refusal;
    }
    this.kept.push(...given.map((act): [string, Act] => [this.who, act]));
    return { queue: VIEW };
  }

  private async answer(): Promise<void> {
    await Promise.resolve();
    const problem = this.failing.shift();
    if (problem) throw problem;
  }
}

const stored = new Map<string, string>();
let isFull = false;

beforeEach(() => {
  vi.useFakeTimers();
  stored.clear();
  isFull = false;
  globalThis.localStorage = {
    get length() { return stored.size; },
    key: (place: number) => [...stored.keys()][place] ?? null,
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => {
      if (isFull) throw new DOMException("full", "QuotaExceededError");
      stored.set(key, value);
    },
    removeItem: (key: string) => void stored.delete(key),
  } as Storage;
});
afterEach(() => { vi.useRealTimers(); });

const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(1);

async function opened(server: Server, isActive = (): boolean => true): Promise<QueueTalk> {
  const talk = new QueueTalk(VIEW, server, isActive);
  talk.start();
  await settle();
  return talk;
}

const saved = (server: Server): string[] => server.kept.map(([who, { key, action }]) => `${who} ${action} ${key}`);

describe("an act that the server does not accept", () => {
  it.each([404, 409, 422])("is put aside after %d with its reason, and the others go on", async (status) => {
    const server = new Server(["a", "b", "c", "d"]);
    server.refuses = ({ key }) => key === "b" ? new ApiError(status, body("ConfigError"), "no such row") : null;
    const talk = await opened(server);
    server.failing = [new ApiError(0, null, "away")];
    for (const _ of "abcd") talk.act("label", "sport");
    await vi.advanceTimersByTimeAsync(10_000);
    const { session, error } = talk.snapshot();
    expect([session.outbox, error]).toEqual([[], ""]);
    const isAll = status === 404; // the queue is gone
    expect(session.refused.map(({ key, value, reason }) => [key, value, reason])).toEqual((isAll ? ["a", "b", "c", "d"] : ["b"]).map((key) => [key, "sport", "no such row"]));
    expect(saved(server)).toEqual(isAll ? [] : ["ada label a", "ada label c", "ada label d"]);
    // It outlives the page, and is not sent by itself.
    const sends = server.sends;
    const reloaded = await opened(server);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(reloaded.snapshot().session.refused).toEqual(session.refused);
    expect(server.sends).toBe(sends);
    // The person chooses: send it again, now that the server takes it.
    server.refuses = () => null;
    for (const { id } of session.refused) reloaded.resend(id);
    await settle();
    expect(reloaded.snapshot().session.refused).toEqual([]);
    expect(saved(server)).toContain("ada label b");
    expect(stored.size).toBe(0);
  });

  it.each([
    [401, null], [403, body("HTTPException")], [503, body("TransientError", true)], [500, body("InternalError")], [0, null], [429, null], [404, null],
  ])("but what passes, such as %d, is tried again, later each time", async (status, why) => {
    const server = new Server(["a"]);
    const talk = await opened(server);
    server.failing = Array.from({ length: 4 }, () => new ApiError(status, why, "away"));
    talk.act("label", "sport");
    await settle();
    expect(talk.snapshot()).toMatchObject({ error: "away", session: { outbox: [{ key: "a" }], refused: [] } });
    await vi.advanceTimersByTimeAsync(3_000 + 6_000 + 12_000 - 10);
    expect(server.sends).toBe(3);
    await vi.advanceTimersByTimeAsync(24_000 + 20);
    expect([server.sends, saved(server), talk.snapshot().error]).toEqual([5, ["ada label a"], ""]);
  });
});

describe("somebody else in the same browser", () => {
  it("sends nothing of the one before, and is told of it", async () => {
    const server = new Server(["a", "b", "c"]);
    const talk = await opened(server);
    server.failing = [new ApiError(401, null, "ended")];
    talk.act("label", "sport");
    await settle();
    server.who = "bob";
    talk.wake();
    await settle();
    expect(saved(server)).toEqual([]);
    const { who, others, session } = talk.snapshot();
    expect([who, [...others], session.outbox, session.done]).toEqual(["bob", [["ada", 1]], [], []]);
    expect(readOutbox("ada", "q")).toHaveLength(1);
    talk.act("label", "trade");
    await settle();
    expect(saved(server)).toEqual(["bob label b"]);
    // Ada is back, on the same page.
    server.who = "ada";
    talk.act("label", "trade");
    await vi.advanceTimersByTimeAsync(100);
    expect(saved(server)).toEqual(["bob label b", "ada label a"]);
    expect(talk.snapshot().others).toEqual(new Map([["bob", 1]]));
  });

  it("nor is it lost where the browser keeps nothing", async () => {
    const server = new Server(["a", "b", "c"]);
    const talk = await opened(server);
    isFull = true;
    server.failing = [new ApiError(401, null, "ended")];
    talk.act("label", "sport");
    await settle();
    expect(talk.snapshot().isKept).toBe(false);
    server.who = "bob";
    talk.wake();
    await settle();
    expect([...talk.snapshot().others]).toEqual([["ada", 1]]);
    server.who = "ada";
    talk.act("skip", null);
    await vi.advanceTimersByTimeAsync(100);
    expect(saved(server)).toEqual(["ada label a"]);
  });
});

describe("asking for rows", () => {
  it("rests when there is no new one, until something changes or a minute has passed", async () => {
    const server = new Server(Array.from({ length: AHEAD }, (_, place) => `row ${place}`));
    server.isEndless = true; // it hands out what this page has labelled
    const talk = await opened(server);
    for (let place = 0; place < AHEAD; place += 1) {
      talk.act("label", "sport");
      await settle();
    }
    const asks = server.asked.length;
    expect(asks).toBeLessThan(2 * AHEAD);
    await vi.advanceTimersByTimeAsync(QUIET - 1000);
    expect([server.asked.length, talk.snapshot().isOver]).toEqual([asks, true]);
    server.rows = ["new"];
    await vi.advanceTimersByTimeAsync(2000);
    expect(talk.snapshot().session.rows.map(({ key }) => key)).toEqual(["new"]);
    talk.lookAgain();
    await settle();
    expect(server.asked.length).toBe(asks + 2);
  });

  it("keeps the rows in front of a reader who is there, and only then", async () => {
    const server = new Server(["a", "b", "c", "d", "e"]);
    let isThere = true;
    await opened(server, () => isThere);
    const asks = server.asked.length;
    await vi.advanceTimersByTimeAsync(RENEW + 10);
    expect(server.asked.slice(asks)).toEqual([{ rows: 0, holding: ["a", "b", "c", "d", "e"] }]);
    isThere = false;
    await vi.advanceTimersByTimeAsync(5 * RENEW);
    expect(server.asked.length).toBe(asks + 1);
  });

  it("takes a skip back at the server", async () => {
    const server = new Server(["a", "b"]);
    const talk = await opened(server);
    talk.act("skip", null);
    await settle();
    talk.undo();
    await settle();
    expect(saved(server)).toEqual(["ada skip a", "ada unskip a"]);
  });
});
