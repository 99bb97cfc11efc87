import { afterEach, describe, expect, it, vi } from "vitest";
import { styleFor } from "../../src/report/style.ts";

const stream = (changes: object): NodeJS.WriteStream => changes as NodeJS.WriteStream;
const terminal = stream({ isTTY: true, columns: 80 });
const escape_ = String.fromCharCode(27);

afterEach(() => vi.unstubAllEnvs());

describe("styleFor", () => {
  it("colours on a terminal only", () => {
    vi.stubEnv("NO_COLOR", "");
    vi.stubEnv("TERM", "xterm");
    expect(styleFor(terminal).verdict("fail", "x")).toContain(escape_);
    expect(styleFor(stream({})).verdict("fail", "x")).toBe("x");
  });

  it("honours NO_COLOR and dumb terminals", () => {
    vi.stubEnv("TERM", "xterm");
    vi.stubEnv("NO_COLOR", "1");
    expect(styleFor(terminal).bold("x")).toBe("x");
    vi.stubEnv("NO_COLOR", "");
    vi.stubEnv("TERM", "dumb");
    expect(styleFor(terminal).bold("x")).toBe("x");
  });

  it("takes the width from COLUMNS, the terminal, or what fits a log", () => {
    vi.stubEnv("COLUMNS", "");
    expect(styleFor(terminal).widthColumns).toBe(80);
    expect(styleFor(stream({})).widthColumns).toBe(160);
    vi.stubEnv("COLUMNS", "100");
    expect(styleFor(terminal).widthColumns).toBe(100);
  });
});
