/** Names that a configuration may use: parameters, and the variable of a group. */

import { createContext } from "react";

export const NamesContext = createContext<readonly string[]>([]);
/** Whether a text field, by its id, asks for a column of a table whose columns are known. */
export const ColumnFieldContext = createContext<(id: string) => boolean>(() => false);
/** Id of the list that fields for columns offer. */
export const COLUMNS_LIST = "mm-columns";
/** Id of the list that text fields offer. */
export const NAMES_LIST = "mm-names";
