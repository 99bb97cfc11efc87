/** Words of the command line in messages: no control of theirs reaches the terminal. */
import { describe, expect, it } from "vitest";
import { cli } from "../support/cli.ts";

const HOSTILE = "\u001b[31m\u009b31m\n# ok";

describe("a hostile word of the command line", () => {
  it.each([
    ["a kernel", ["run", "--kernel", `/nope${HOSTILE}`], "--kernel /nope\\x1b[31m\\x9b31m\\n# ok: ENOENT"],
    ["an option", ["run", `--${HOSTILE}`], "unknown option '--\\x1b[31m\\x9b31m"],
    ["a token", ["explore", "apf-loop", "-s", "hang-without-apf", "--replay", HOSTILE], "\\x1b[31m\\x9b31m"],
    ["a record's file", ["report", `/nope/${HOSTILE}`], "\\x1b[31m\\x9b31m"],
  ])("%s is shown in a message, and nothing of it is a control", async (_what, args, message) => {
    const { code, stdout, stderr } = await cli(args);
    expect(stderr).toContain(message);
    expect(`${stdout}${stderr}`.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
    expect(code).toBe(64);
  });
});
