/** Escaping for HTML, SVG and XML: the only way in which text from outside gets into markup. */

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** What XML 1.0 allows in a document (Char, section 2.2): other control characters and lone surrogates are not text. */
const notText = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;

/** Text as content or as a quoted attribute. */
export function escapeMarkup(text: string): string {
  return text.replaceAll(notText, "\u{fffd}").replaceAll(/[&<>"']/g, (sign) => entities[sign] ?? "");
}
