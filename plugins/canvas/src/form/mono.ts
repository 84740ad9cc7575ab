/** Props of a field whose text is a name or a path. At 14 pixels Chromium cuts off the underscores of DejaVu Sans Mono. */
export const MONO = { fontFamily: "mono", style: { fontSize: "13px" } } as const;
