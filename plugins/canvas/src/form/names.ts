/** Names that a configuration may use: parameters, and the variable of a group. */

import { createContext } from "react";

export const NamesContext = createContext<readonly string[]>([]);
/** Id of the list that text fields offer. */
export const NAMES_LIST = "mm-names";
