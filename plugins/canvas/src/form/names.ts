/** Names that a configuration may use: parameters, and the variable of a group. */

import { createContext } from "react";

export const NamesContext = createContext<readonly string[]>([]);
/** Which list a text field offers, by the field's id. */
export const OfferedListContext = createContext<(id: string) => string>(() => NAMES_LIST);
/** Id of the list that fields for columns offer. */
export const COLUMNS_LIST = "mm-columns";
/** Id of the list that text fields offer. */
export const NAMES_LIST = "mm-names";
/** Id of the list that fields for tables offer. */
export const TABLES_LIST = "mm-tables";
