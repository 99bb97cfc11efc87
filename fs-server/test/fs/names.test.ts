import { describe, expect, it } from "vitest";
import { withoutTrusted } from "../../src/fs/names.ts";

describe("a list of attribute names without trusted.*", () => {
  it.each([
    ["", ""],
    ["user.a\0", "user.a\0"],
    ["trusted.a\0", ""],
    ["user.a\0trusted.b\0security.c\0trusted.d\0", "user.a\0security.c\0"],
    ["user.trusted.a\0trusted\0", "user.trusted.a\0trusted\0"],
    ["trusted.a\0user.trusted.a\0", "user.trusted.a\0"],
    ["user.a\0trusted.without end", "user.a\0"],
  ])("%j is %j", (list, kept) => {
    expect(Buffer.from(withoutTrusted(Buffer.from(list))).toString()).toBe(kept);
  });
});
