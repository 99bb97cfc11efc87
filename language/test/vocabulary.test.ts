import { describe, expect, it } from "vitest";
import {
  accessText,
  hostResultText,
  parseAccessText,
  parseAccessWord,
  parseHostResultText,
  parseHostWord,
  parseVmmText,
  parseVmmWord,
  sigbusCode,
  sigsegvCode,
  splitWord,
} from "../src/vocabulary.ts";

describe("splitWord", () => {
  it.each([
    ["sigbus(BUS_ADRERR)", ["sigbus", "BUS_ADRERR"]],
    ["not-reached", ["not-reached", ""]],
    ["value(0x5", ["", ""]],
    ["", ["", ""]],
  ] as const)("of %j", (text, parts) => {
    expect(splitWord(text)).toEqual(parts);
  });
});

describe("a word with its figures", () => {
  it.each([
    "value(0x5)",
    "stale(0xda0000001000)",
    "sigbus(unobserved)",
    "sigbus(BUS_MCEERR_AR)",
    "sigbus(SI_KERNEL)",
    "sigbus(si_code=77)",
    "sigbus(si_code=-6)",
    "sigsegv(SEGV_ACCERR)",
    "sigsegv(SI_KERNEL)",
    "sigsegv(unobserved)",
    "errno(EIO)",
    "errno(4095)",
    "short(0)",
    "short(8)",
    "done",
    "zero",
    "hung",
  ])("%s is read back", (text) => {
    const access = parseAccessText(text);
    expect(access === null ? null : accessText(access)).toBe(text);
  });

  it.each(["delayed(45000.0)", "denied(EPERM)", "done", "not-reached"])("%s is read back", (text) => {
    const result = parseHostResultText(text);
    expect(result === null ? null : hostResultText(result)).toBe(text);
  });

  it.each([
    "value",
    "stale",
    "sigbus",
    "sigbus(BUS_NONE)",
    "sigbus(si_code=2)",
    "sigbus(si_code=07)",
    "sigsegv(BUS_ADRERR)",
    "errno(no)",
    "errno",
    "short",
    "short(-1)",
    "done(1)",
    "value(5)",
    "hung(0x1)",
    "delayed",
    "",
  ])("%j is no access", (text) => {
    expect(parseAccessText(text)).toBeNull();
  });

  it.each([
    [1, "BUS_ADRALN", "SEGV_MAPERR"],
    [2, "BUS_ADRERR", "SEGV_ACCERR"],
    [3, "BUS_OBJERR", "si_code=3"],
    [4, "BUS_MCEERR_AR", "SEGV_PKUERR"],
    [5, "BUS_MCEERR_AO", "si_code=5"],
    [0x80, "SI_KERNEL", "SI_KERNEL"],
    [0, "si_code=0", "si_code=0"],
    [-6, "si_code=-6", "si_code=-6"],
  ] as const)("si_code %d is %s of SIGBUS, %s of SIGSEGV", (number, sigbus, sigsegv) => {
    expect([sigbusCode(number), sigsegvCode(number)]).toEqual([sigbus, sigsegv]);
  });

  it.each(["delayed", "delayed(soon)", "denied", "done(1)", "hung", ""])("%j is no host result", (text) => {
    expect(parseHostResultText(text)).toBeNull();
  });
});

describe("a word without figures", () => {
  it.each([
    ["sigbus", { kind: "sigbus", code: "unobserved" }],
    ["sigbus(unobserved)", { kind: "sigbus", code: "unobserved" }],
    ["sigbus(BUS_ADRERR)", { kind: "sigbus", code: "BUS_ADRERR" }],
    ["value", { kind: "value" }],
    ["value(0x5)", null],
    ["sigsegv", { kind: "sigsegv", code: "unobserved" }],
    ["errno(EIO)", { kind: "errno", errno: "EIO" }],
    ["short(4)", { kind: "short", bytes: 4 }],
    ["short", null],
    ["done", { kind: "done" }],
    ["delayed", null],
  ] as const)("of an access: %s", (text, word) => {
    expect(parseAccessWord(text)).toEqual(word);
  });

  it.each([
    ["denied", { kind: "denied", errno: "unobserved" }],
    ["denied(EPERM)", { kind: "denied", errno: "EPERM" }],
    ["delayed", { kind: "delayed" }],
    ["delayed(12.5)", null],
    ["hung", null],
  ] as const)("of the host: %s", (text, word) => {
    expect(parseHostWord(text)).toEqual(word);
  });

  it.each([
    ["looping", { kind: "looping" }],
    ["waiting", { kind: "waiting" }],
    ["stopped(memory-fault)", { kind: "stopped", reason: "memory-fault" }],
    ["stopped(tired)", null],
    ["killed(SIGBUS)", { kind: "killed", signal: "SIGBUS" }],
    ["asleep", null],
  ] as const)("of the VMM: %s", (text, word) => {
    expect(parseVmmWord(text)).toEqual(word);
    expect(parseVmmText(text, 7, null)?.kind).toBe(word?.kind);
  });
});
