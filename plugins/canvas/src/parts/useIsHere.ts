import { useCallback, useEffect, useRef } from "react";

/** Return what says whether the part of the page is still shown: an answer may come when it is not. */
export function useIsHere(): () => boolean {
  const isHere = useRef(false);
  useEffect(() => {
    isHere.current = true;
    return () => { isHere.current = false; };
  }, []);
  return useCallback(() => isHere.current, []);
}
