/** A page that follows a run, and a server that counts what it is asked. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { ApiError, type RunNode, type RunView } from "../src/api/client";
import { Follower, type RunServer, heardTasks } from "../src/run/follow";

function node(step: string, state: string, of = step): RunNode {
  return { step, step_key: step, of, state, value: null, start: null, end: null, duration: null, try_number: 1, max_tries: 0, reused: null, log_url: "", mlflow_run: null, mlflow_url: "", outputs: {} };
}

/** Steps 0 … `count` - 1, the first `ended` of which have ended. */
const nodesOf = (count: number, ended: number): RunNode[] =>
  Array.from({ length: count }, (_, index) => node(`s${index}`, index < ended ? "success" : "running"));

class Server implements RunServer {
  nodes: RunNode[] = [];
  state = "running";
  readonly logs: string[] = [];
  measured = 0;
  isMlflowDown = false;

  run(): Promise<RunView> {
    return Promise.resolve({ run_id: "one", state: this.state, nodes: this.nodes } as unknown as RunView);
  }

  log(_dagId: string, _runId: string, step: string): ReturnType<RunServer["log"]> {
    this.logs.push(step);
    return Promise.resolve({ progress: null, said: `${step} says` } as unknown as Awaited<ReturnType<RunServer["log"]>>);
  }

  runMetrics(): ReturnType<RunServer["runMetrics"]> {
    this.measured += 1;
    if (this.isMlflowDown) return Promise.reject(new ApiError(503, null, "down"));
    const ended = this.nodes.filter(({ state }) => state === "success");
    return Promise.resolve(Object.fromEntries(ended.map(({ step }) => [step, { run_id: "", status: "FINISHED", metrics: { rows_out: 3 } }])));
  }
}

let server = new Server();
let selected = new Set<string>();
let follower = new Follower("p", "one", server, () => selected);
const look = async () => (await follower.look(new AbortController().signal)).steps;
/** Look every 2.5 s, as a page does. */
async function follow(seconds: number, each: (at: number) => void = () => undefined): Promise<void> {
  for (let at = 0; at < seconds; at += 2.5) {
    each(at);
    await look();
    vi.advanceTimersByTime(2500);
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  server = new Server();
  selected = new Set();
  follower = new Follower("p", "one", server, () => selected);
});
afterEach(() => { vi.useRealTimers(); });

describe("logs", () => {
  it("are read of a dozen steps: selected ones first, those that wait last", async () => {
    server.nodes = [...nodesOf(200, 0), ...Array.from({ length: 100 }, (_, index) => node(`w${index}`, "deferred"))];
    await look();
    expect(server.logs).toEqual(["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11"]);
    server.logs.length = 0;
    selected = new Set(["w7", "s150"]);
    const steps = await look();
    expect(server.logs).toHaveLength(12);
    expect(steps.get("w7")?.line).toBe("w7 says");
    expect(steps.get("s150")?.line).toBe("s150 says");
    expect(steps.get("s0")?.line).toBe("s0 says");
    expect(steps.get("w8")?.line).toBe("");
  });

  it("are read of a step that waits while others run", () => {
    expect([...heardTasks([node("batch", "deferred"), node("other", "running")], new Set())]).toEqual(["other", "batch"]);
  });

  it("are read of each step before they are read of more copies of one", () => {
    const copies = Array.from({ length: 30 }, (_, index) => node(`each__${index}`, "running", "each"));
    const heard = heardTasks([...copies, node("last", "running"), node("done", "success")], new Set(["done"]));
    expect([...heard].slice(0, 3)).toEqual(["each__0", "last", "each__1"]);
    expect(heard.size).toBe(12);
  });
});

describe("figures", () => {
  it("are asked for when another step has ended, not when one begins or goes on", async () => {
    server.nodes = nodesOf(10, 0);
    await follow(10);
    expect(server.measured).toBe(0);
    server.nodes = nodesOf(10, 2);
    await follow(10);
    expect(server.measured).toBe(1);
    server.nodes = nodesOf(10, 3);
    expect((await look()).get("s2")?.line).toBe("3 rows");
    expect(server.measured).toBe(2);
    // Another attempt of a step that had ended before.
    server.nodes = server.nodes.map((one) => (one.step === "s0" ? { ...one, try_number: 2 } : one));
    await look();
    expect(server.measured).toBe(3);
  });

  it("are asked for once in ten seconds in a run of many steps, and at its end", async () => {
    await follow(100, (at) => { server.nodes = nodesOf(200, 1 + at * 2); });
    expect(server.measured).toBe(10);
    server.nodes = nodesOf(200, 200);
    server.state = "success";
    expect((await look()).get("s199")?.line).toBe("3 rows");
    expect(server.measured).toBe(11);
  });

  it("are asked for again where MLflow did not answer, later", async () => {
    server.isMlflowDown = true;
    server.nodes = nodesOf(3, 1);
    await follow(20);
    expect(server.measured).toBe(2);
    server.isMlflowDown = false;
    await follow(10);
    expect(server.measured).toBe(3);
    expect((await look()).get("s0")?.line).toBe("3 rows");
  });
});
