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

/** Markup that is finished: made by `markup` out of escaped parts, or by `trusted`. */
export type Markup = { readonly html: string };

type Part = string | number | Markup | readonly Markup[] | null;

function partText(part: Part): string {
  if (part === null) return "";
  if (typeof part === "string" || typeof part === "number") return escapeMarkup(String(part));
  return "html" in part ? part.html : part.map(({ html }) => html).join("");
}

/** Markup from a template: whatever is put into it is escaped, unless it is markup itself; null is nothing. */
export function markup(literals: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return {
    html: literals.map((literal, index) => literal + partText(parts[index] ?? null)).join(""),
  };
}

/** Markup from elsewhere: our own style sheet, a plot that a library has drawn and escaped. */
export function trusted(html: string): Markup {
  return { html };
}
