/** Answers that are no answers: every caller is told so in the same way as where nobody answers. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { ApiError, api, call } from "../src/api/client";

beforeEach(() => { vi.stubGlobal("document", { baseURI: "http://airflow.test/" }); });
afterEach(() => { vi.unstubAllGlobals(); });

const answered = (answer: Response): void => { vi.stubGlobal("fetch", () => Promise.resolve(answer)); };

/** An answer whose body ends before it is complete. */
function cutOff(status = 200): Response {
  const body = new ReadableStream<Uint8Array>({
    start: (stream) => {
      stream.enqueue(new TextEncoder().encode('{"nodes": ['));
      stream.error(new TypeError("terminated"));
    },
  });
  return new Response(body, { status });
}

async function problemOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(() => null, (problem: unknown) => problem);
}

describe("an answer that cannot be read", () => {
  it.each([
    ["a login page", new Response("<!doctype html><title>Log in</title>", { status: 200 })],
    ["JSON that breaks off", new Response('{"nodes": [', { status: 200 })],
    ["nothing", new Response("", { status: 200 })],
    ["a body that is cut off", cutOff()],
    ["a refusal that is cut off", cutOff(502)],
  ])("%s is as if the server did not answer", async (_, answer) => {
    answered(answer);
    const problem = await problemOf(api.pipelines());
    expect(problem).toBeInstanceOf(ApiError);
    expect(problem).toMatchObject({ status: 0, body: null, message: expect.stringContaining("try again") as string });
  });

  it("is nobody's problem once its caller has given it up", async () => {
    answered(cutOff());
    const problem = await problemOf(call("GET", "/home", { signal: AbortSignal.abort() }));
    expect(problem).not.toBeInstanceOf(ApiError);
  });
});

it("nothing is an answer to what is sent", async () => {
  answered(new Response(null, { status: 204 }));
  expect(await api.remove("p", "1")).toBeNull();
});
