import { useEffect } from "react";

/** Be told when another tab has changed what this browser keeps. `onChange` has to be the same function between renders. */
export function useOtherTabs(onChange: () => void): void {
  useEffect(() => {
    window.addEventListener("storage", onChange);
    return () => { window.removeEventListener("storage", onChange); };
  }, [onChange]);
}
