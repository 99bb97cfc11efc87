import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { classifyAccess, contentBytes, fetchValue, fromValue, toValue } from "../../src/scenario/content.ts";

const offsets = fc.bigInt({ min: 0n, max: 64n << 20n });

describe("contentBytes", () => {
  it("puts n + 0xda0000000000 at every word n of a pattern", () => {
    fc.assert(
      fc.property(offsets, (offset) => {
        const word = offset - (offset % 8n);
        expect(toValue(contentBytes("pattern", word, 8))).toBe(word + 0xda0000000000n);
      }),
    );
  });

  it("gives any part as the whole has it", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("pattern" as const, "code" as const),
        offsets,
        fc.nat({ max: 9000 }),
        fc.nat({ max: 64 }),
        (content, offset, skip, length) => {
          const whole = contentBytes(content, offset, skip + length);
          expect(contentBytes(content, offset + BigInt(skip), length)).toEqual(whole.subarray(skip));
        },
      ),
    );
  });

  it("puts mov eax, 0xda000000 + page; ret at every page of code", () => {
    const code = contentBytes("code", 0x3000n, 8);
    expect([...code]).toEqual([0xb8, 0x03, 0x00, 0x00, 0xda, 0xc3, 0xcc, 0xcc]);
    expect(fetchValue(0x3000n)).toBe(0xda000003n);
  });
});

describe("toValue and fromValue", () => {
  it("are each other's inverse", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
        expect(fromValue(toValue(bytes), bytes.length)).toEqual(bytes);
      }),
    );
  });

  it("keep all bits of 2^64-1 and 2^53+1", () => {
    for (const value of [2n ** 64n - 1n, 2n ** 53n + 1n]) expect(toValue(fromValue(value, 8))).toBe(value);
  });
});

describe("classifyAccess", () => {
  const load = { verb: "load", offset: 0x1000n, size: 8 } as const;
  const original = contentBytes("pattern", 0x1000n, 8);
  const zeros = new Uint8Array(8);
  const other = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
  const never = () => false;

  it.each([
    ["what the file holds", original, original, "value"],
    ["what somebody has stored meanwhile", other, other, "value"],
    ["zeros of a hole, though the file has them too", zeros, zeros, "zero"],
    ["zeros where the file has something", zeros, original, "zero"],
    ["what the file held before it was cut", original, zeros, "stale"],
    ["what was never there", other, original, "stale"],
  ])("%s", (_what, seen, fileNow, kind) => {
    expect(
      classifyAccess(load, 0x1000n, seen, { zerosAreHeld: never, wasHeld: never, fileNow: () => fileNow })
        .kind,
    ).toBe(kind);
  });

  it("zeros that the file holds by right are its value, and stale where it has something else by now", () => {
    const kindOf = (fileNow: Uint8Array) =>
      classifyAccess(load, 0x1000n, zeros, {
        zerosAreHeld: () => true,
        wasHeld: never,
        fileNow: () => fileNow,
      }).kind;
    expect(kindOf(zeros)).toBe("value");
    expect(kindOf(other)).toBe("stale");
  });

  it("zeros that a store wrote are its value, where the file has them", () => {
    const store = { verb: "store", offset: 0x1000n, size: 8, value: 0n } as const;
    expect(
      classifyAccess(store, 0x1000n, zeros, { zerosAreHeld: never, wasHeld: never, fileNow: () => zeros }),
    ).toEqual({
      kind: "value",
      value: 0n,
    });
    expect(
      classifyAccess(store, 0x1000n, zeros, { zerosAreHeld: never, wasHeld: never, fileNow: () => original })
        .kind,
    ).toBe("stale");
  });

  const size = { verb: "file-size", offset: 0n } as const;
  it.each([
    ["the size that the file has", 0x1004n, 0x1004n, "value"],
    ["nothing, of an empty file", 0n, 0n, "value"],
    ["a size that the file had", 0x400000n, 0n, "stale"],
  ] as const)("of an access that asks for the size: %s", (_what, seen, now, kind) => {
    const fileNow = () => fromValue(now, 8);
    expect(
      classifyAccess(size, 0n, fromValue(seen, 8), { zerosAreHeld: never, wasHeld: never, fileNow }),
    ).toEqual({
      kind,
      value: seen,
    });
  });

  it("what the file held at the access, where a later step has left what it holds now", () => {
    const given = { zerosAreHeld: never, wasHeld: () => true, fileNow: () => other };
    expect(classifyAccess(load, 0x1000n, original, given).kind).toBe("value");
    expect(classifyAccess(load, 0x1000n, zeros, given).kind).toBe("zero");
    expect(classifyAccess(size, 0n, fromValue(0x1000n, 8), given).kind).toBe("stale");
  });

  it("of an access that sees nothing: done", () => {
    for (const step of [
      { verb: "fsync", offset: 0n } as const,
      { ...load, verb: "msync" } as const,
      { verb: "file-truncate", offset: 0n, newSize: 0n } as const,
    ]) {
      const seen = new Uint8Array();
      expect(
        classifyAccess(step, 0n, seen, { zerosAreHeld: never, wasHeld: never, fileNow: () => seen }),
      ).toEqual({
        kind: "done",
      });
    }
  });

  // By width: what was seen, what the file holds after it.
  it.each([
    ["what was there before it added one", 8, 0x5an, 0x5bn, "value"],
    ["the same, where that wrapped", 2, 0xffffn, 0n, "value"],
    ["what is there still", 8, 0x5an, 0x5an, "stale"],
    ["of 16 bytes what it has put back", 16, 0x5an, 0x5an, "value"],
    ["of 16 bytes what would have been there before adding", 16, 0x5an, 0x5bn, "stale"],
  ] as const)("takes for what an atomic access has seen %s", (_what, size, seen, now, kind) => {
    const step = { verb: "atomic", offset: 0x1000n, size } as const;
    const access = classifyAccess(step, 0x1000n, fromValue(seen, size), {
      zerosAreHeld: never,
      wasHeld: never,
      fileNow: () => fromValue(now, size),
    });
    expect(access).toEqual({ kind, value: seen });
  });

  it("takes a fetch for a value only if our code of that page returned", () => {
    const fetched = (eax: bigint) =>
      classifyAccess({ verb: "fetch", offset: 0x1000n }, 0x1000n, fromValue(eax, 4), {
        zerosAreHeld: never,
        wasHeld: never,
        fileNow: () => zeros,
      });
    expect(fetched(0xda000001n)).toEqual({ kind: "value", value: 0xda000001n });
    expect(fetched(0xda000002n).kind).toBe("stale");
  });
});
