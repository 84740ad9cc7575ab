import { useCallback, useEffect, useState } from "react";

import { ApiError } from "./client";

export interface Answer<T> {
  data: T | null;
  /** Why there is no answer; empty: there is one, or it is on its way. */
  error: string;
  reload: () => void;
}

/** Ask when the page opens, and again on `reload`. `ask` has to be the same function between renders. */
export function useAnswer<T>(ask: () => Promise<T>): Answer<T> {
  const [state, setState] = useState<{ data: T | null; error: string }>({ data: null, error: "" });
  const [round, setRound] = useState(0);
  useEffect(() => {
    let isCurrent = true;
    ask().then(
      (data) => { if (isCurrent) setState({ data, error: "" }); },
      (error: unknown) => {
        if (!isCurrent) return;
        if (!(error instanceof ApiError)) throw error;
        setState((before) => ({ ...before, error: error.message }));
      },
    );
    return () => { isCurrent = false; };
  }, [ask, round]);
  const reload = useCallback(() => { setRound((before) => before + 1); }, []);
  return { ...state, reload };
}
