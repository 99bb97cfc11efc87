/** Lines of JSON in any pieces. */
import { describe, expect, it } from "vitest";
import { LineReader } from "../../src/guard/lines.ts";

const MAX_LINE = 64 * 1024;
const bytes = (text: string): Buffer => Buffer.from(text);

/** What comes of a text in pieces of so many bytes. */
function inPieces(text: string, length: number): unknown[] {
  const reader = new LineReader<unknown>();
  const all = bytes(text);
  const messages: unknown[] = [];
  for (let at = 0; at < all.length; at += length)
    messages.push(...reader.feed(all.subarray(at, at + length)));
  return messages;
}

describe("lines", () => {
  it.each([1, 2, 3, 7, 1000])("come out whole from pieces of %d bytes", (length) => {
    const messages = [{ a: 1 }, "zw\u00f6lf", "\u{1f600}".repeat(40), [], 7];
    const text = messages.map((message) => `${JSON.stringify(message)}\n`).join("");
    expect(inPieces(`${text}{"unfinished"`, length)).toEqual(messages);
  });

  it.each([1, 4096, 2 * MAX_LINE])("of more than 64 KiB are refused, in pieces of %d bytes", (length) => {
    const line = (size: number): string => `"${"x".repeat(size - 2)}"\n`;
    expect(inPieces(line(MAX_LINE), length)).toHaveLength(1);
    expect(() => inPieces(line(MAX_LINE + 1), length)).toThrow(RangeError);
    expect(() => inPieces("x".repeat(MAX_LINE + 1), length)).toThrow(RangeError);
  });

  it("that are no JSON are a SyntaxError", () => {
    expect(() => inPieces("{}\nnothing\n", 100)).toThrow(SyntaxError);
  });

  it("cost as much at their end as at their beginning, byte by byte", () => {
    const byte = bytes("x");
    const feed = (reader: LineReader<unknown>, count: number): number => {
      const start = performance.now();
      for (let i = 0; i < count; i += 1) reader.feed(byte);
      return performance.now() - start;
    };
    const part = 4096;
    const times = Array.from({ length: 5 }, () => {
      const reader = new LineReader<unknown>();
      const first = feed(reader, part);
      feed(reader, MAX_LINE - 2 * part);
      return { first, last: feed(reader, part) };
    });
    const [first, last] = [
      Math.min(...times.map((one) => one.first)),
      Math.min(...times.map((one) => one.last)),
    ];
    // 14 times as much where each byte costs the line so far.
    expect(last / first).toBeLessThan(5);
  });
});
