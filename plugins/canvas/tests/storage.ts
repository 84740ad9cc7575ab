/** A browser's storage as a test needs one: what is kept is listed by its keys, too. */
export function storage(): Storage {
  const hidden = { enumerable: false };
  const kept: Record<string, string> = Object.create(
    Object.create(null, {
      getItem: { value: (key: string) => kept[key] ?? null, ...hidden },
      setItem: { value: (key: string, value: string) => { kept[key] = value; }, ...hidden },
      removeItem: { value: (key: string) => { Reflect.deleteProperty(kept, key); }, ...hidden },
    }) as object,
  ) as Record<string, string>;
  return kept as unknown as Storage;
}
