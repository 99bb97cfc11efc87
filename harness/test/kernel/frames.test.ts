import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeFrame, FrameReader } from "../../src/kernel/frames.ts";

describe("frames", () => {
  it("come out as they went in, in whatever pieces they arrive", () => {
    const message = fc.record({ id: fc.nat(), bytes: fc.uint8Array(), big: fc.bigInt(), text: fc.string() });
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 5 }),
        fc.integer({ min: 1, max: 50 }),
        (messages, pieceBytes) => {
          const stream = Buffer.concat(messages.map(encodeFrame));
          const got: unknown[] = [];
          const reader = new FrameReader((one) => got.push(one));
          for (let at = 0; at < stream.length; at += pieceBytes)
            reader.feed(stream.subarray(at, at + pieceBytes));
          expect(JSON.stringify(got, text)).toEqual(JSON.stringify(messages, text));
        },
      ),
    );
  });

  it("refuses a length that no message has: the stream is out of step", () => {
    expect(() => new FrameReader(() => {}).feed(Buffer.from("[    0.000000] Linux"))).toThrow("at most");
  });
});

const text = (_key: string, value: unknown): unknown => (typeof value === "bigint" ? `${value}n` : value);
