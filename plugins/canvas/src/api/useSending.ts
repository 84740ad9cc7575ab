import { useState } from "react";

import { ApiError } from "./client";

/** Return what sends a request, whether one is on its way, and why the last one was refused. */
export function useSending(): { isBusy: boolean; error: string; send: (request: () => Promise<void>) => Promise<void> } {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const send = async (request: () => Promise<void>): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      await request();
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
    } finally {
      setBusy(false);
    }
  };
  return { isBusy, error, send };
}
