/** Whether a person is at the page: it is in sight, and something moved on it not long ago. */

const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchmove"] as const;
/** Reading without a key, a scroll or a move of the pointer takes no longer than this, in milliseconds. */
const AWAKE = 15 * 60_000;

export interface Activity {
  isActive: () => boolean;
  /** Begin to look; @return what ends it. */
  watch: (onReturn: () => void) => () => void;
}

export function pageActivity(): Activity {
  let last = Date.now();
  const isActive = (): boolean => !document.hidden && Date.now() - last < AWAKE;
  const watch = (onReturn: () => void): (() => void) => {
    const moved = (): void => {
      const wasAway = !isActive();
      last = Date.now();
      if (wasAway) onReturn();
    };
    const seen = (): void => {
      last = Date.now();
      if (!document.hidden) onReturn();
    };
    for (const sign of SIGNS) window.addEventListener(sign, moved, { passive: true, capture: true });
    document.addEventListener("visibilitychange", seen);
    return () => {
      for (const sign of SIGNS) window.removeEventListener(sign, moved, { capture: true });
      document.removeEventListener("visibilitychange", seen);
    };
  };
  return { isActive, watch };
}
