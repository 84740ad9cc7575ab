/** Random tests try the same values each time, so that a failure is a change's own. Others by hand: SEED=2 npm test. */

import fc from "fast-check";

fc.configureGlobal({ seed: Number(process.env.SEED ?? 1) });
