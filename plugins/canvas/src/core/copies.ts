/** A copy of a pipeline's text, under a name that is free. */

const MOST = 63;

/** Return the first of NAME_copy, NAME_copy2, … that nobody has. */
export function copyName(name: string, taken: readonly string[]): string {
  for (let number = 1; ; number += 1) {
    const ending = number === 1 ? "_copy" : `_copy${number}`;
    const found = name.slice(0, MOST - ending.length) + ending;
    if (!taken.includes(found)) return found;
  }
}

/** Return the text with another name: only the line that says it changes, comments stay. */
export function renamedText(text: string, name: string): string {
  return text.replace(/^(["']?pipeline["']?[ \t]*:[ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s#]+)/m, (_, key: string) => key + name);
}
