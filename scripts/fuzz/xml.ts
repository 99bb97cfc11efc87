/**
 * Is a text a well-formed XML 1.0 document? The subset that JUnit reports use: elements, attributes in double quotes,
 * references to the five entities and to characters. A DTD, a comment, a CDATA section or a processing instruction is
 * refused: no report has one, so it came out of an input.
 */

/** Char of XML 1.0, section 2.2. */
const notChar = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u;
const reference = /&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)/;
const tag = /<(\/?)([A-Za-z][A-Za-z0-9.-]*)((?:\s+[A-Za-z][A-Za-z0-9.-]*="[^"<]*")*)\s*(\/?)>/y;
const DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>';

export type XmlElement = {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
};

type OpenElement = { readonly name: string; attributes: ReadonlyMap<string, string>; children: XmlElement[] };

/** The document's element, or what is wrong with the document. */
export function parseXml(text: string): XmlElement | string {
  if (!text.startsWith(DECLARATION)) return "no XML declaration";
  if (notChar.test(text)) return `a character that XML does not allow at ${text.search(notChar)}`;
  if (reference.test(text)) return `a bare & at ${text.search(reference)}`;
  const root: OpenElement = { name: "", attributes: new Map(), children: [] };
  const open: OpenElement[] = [root];
  let at = DECLARATION.length;
  for (;;) {
    const next = text.indexOf("<", at);
    const between = text.slice(at, next < 0 ? text.length : next);
    if (between.includes("]]>")) return `]]> in text at ${at}`;
    if (open.length === 1 && between.trim() !== "") return `text outside the document's element at ${at}`;
    if (next < 0) break;
    tag.lastIndex = next;
    const found = tag.exec(text);
    if (found === null) return `no tag at ${next}: ${JSON.stringify(text.slice(next, next + 40))}`;
    at = next + found[0].length;
    const problem = step(open, found);
    if (problem !== null) return `${problem} at ${next}`;
  }
  const [only, second] = root.children;
  if (open.length > 1) return `${open.at(-1)?.name} is not closed`;
  return only === undefined || second !== undefined ? "not one element" : only;
}

function step(
  open: OpenElement[],
  [, close = "", name = "", written = "", empty = ""]: readonly string[],
): string | null {
  const parent = open.at(-1);
  if (parent === undefined) return "nothing is open";
  if (close !== "") {
    if (parent.name !== name || open.length < 2) return `</${name}> closes nothing`;
    open.pop();
    return null;
  }
  const attributes = new Map<string, string>();
  for (const [, attribute = "", value = ""] of written.matchAll(/([A-Za-z][A-Za-z0-9.-]*)="([^"]*)"/g)) {
    if (attributes.has(attribute)) return `${attribute} twice`;
    attributes.set(attribute, value);
  }
  const element: OpenElement = { name, attributes, children: [] };
  parent.children.push(element);
  if (empty === "") open.push(element);
  return null;
}
