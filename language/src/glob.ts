/** Patterns for ids: `*` stands for any characters, `/` included; everything else for itself. */

/** Does the whole of `text` match? Linear in the text for each `*`. */
export function matchesGlob(pattern: string, text: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return pattern === text;
  if (!text.startsWith(first)) return false;
  const last = rest.pop() ?? "";
  let from = first.length;
  for (const part of rest) {
    const at = text.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return text.length - last.length >= from && text.endsWith(last);
}

export function isGlob(pattern: string): boolean {
  return pattern.includes("*");
}
