/** A small table of figures. */

import type { ReactNode } from "react";

interface FiguresProps {
  label: string;
  head: readonly string[];
  rows: readonly (readonly ReactNode[])[];
  /** The row that the card is about. */
  own?: number;
}

export function Figures({ label, head, rows, own }: FiguresProps) {
  return (
    <table className="mm-figures" aria-label={label}>
      <thead>
        <tr>
          {head.map((title) => (
            <th key={title} scope="col">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row, index) => (
          <tr key={index} data-own={index === own ? "" : undefined}>
            {row.map((cell, column) => (
              <td key={head[column]}>{cell}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
