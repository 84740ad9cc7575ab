import { useCallback, useEffect, useRef, useState } from "react";

import { Asking } from "./asking";
import { ApiError } from "./client";

export interface Answer<T> {
  data: T | null;
  /** Why there is no answer; empty: there is one, or it is on its way. */
  error: string;
  /** Ask again, now. */
  reload: () => void;
  /** Ask again, unless an answer is on its way. */
  poll: () => void;
}

/** Ask when the page opens, and again on `reload`. `ask` has to be the same function between renders. */
export function useAnswer<T>(ask: () => Promise<T>): Answer<T> {
  const [state, setState] = useState<{ data: T | null; error: string }>({ data: null, error: "" });
  const asking = useRef<Asking<T> | null>(null);
  useEffect(() => {
    const begun = new Asking(
      ask,
      (data) => { setState({ data, error: "" }); },
      (error) => {
        if (!(error instanceof ApiError)) throw error;
        setState((before) => ({ ...before, error: error.message }));
      },
    );
    asking.current = begun;
    begun.again();
    return () => { begun.stop(); };
  }, [ask]);
  const reload = useCallback(() => { asking.current?.again(); }, []);
  const poll = useCallback(() => { asking.current?.poll(); }, []);
  return { ...state, reload, poll };
}
