import { describe, expect, it } from "vitest";
import { channelLayout } from "../../src/guest/channel.ts";
import { caseLayout, LinuxCase } from "../../src/guest/linux-case.ts";
import { compileAndRun, compilerOrReason } from "../support/compile.ts";

const folders = ["step", "linux"].map((name) => new URL(`../../guest/${name}/`, import.meta.url).pathname);

const offset = (field: string) => `offsetof(struct linux_case, ${field})`;
const taskOffset = (field: string) => `offsetof(struct linux_task, ${field})`;

/** C expression for each entry of `caseLayout`, so that no number is written twice. */
const expressions: Record<keyof typeof caseLayout, string> = {
  CASE_MAGIC: "CASE_MAGIC",
  MAX_MAPPINGS: "MAX_MAPPINGS",
  MAX_PATH_BYTES: "MAX_PATH_BYTES",
  MAX_MOUNT_BYTES: "MAX_MOUNT_BYTES",
  MAX_REFUSAL_BYTES: "MAX_REFUSAL_BYTES",
  CASE_PINS_TASKS: "CASE_PINS_TASKS",
  CASE_EXECUTES: "CASE_EXECUTES",
  CASE_HOLDS_FILE: "CASE_HOLDS_FILE",
  CASE_ONLY_READS: "CASE_ONLY_READS",
  sizeofMapping: "sizeof(struct mapping)",
  sizeofLinuxTask: "sizeof(struct linux_task)",
  sizeofLinuxCase: "sizeof(struct linux_case)",
  offsetofMagic: offset("magic"),
  offsetofWindowBytes: offset("window_bytes"),
  offsetofFlags: offset("flags"),
  offsetofMappingCount: offset("mapping_count"),
  offsetofMappings: offset("mappings"),
  offsetofPath: offset("path"),
  offsetofMountType: offset("mount_type"),
  offsetofMountSource: offset("mount_source"),
  offsetofMountOptions: offset("mount_options"),
  offsetofStop: offset("stop"),
  offsetofBegun: offset("begun"),
  offsetofRefusal: offset("refusal"),
  offsetofTasks: offset("tasks"),
  offsetofTaskStatus: taskOffset("status"),
  offsetofTaskMail: taskOffset("mail"),
  offsetofFirst: offset("first"),
  offsetofMailDoorbell: "offsetof(struct mailbox, doorbell)",
  offsetofMailRung: "offsetof(struct mailbox, rung)",
  offsetofMailAnswered: "offsetof(struct mailbox, answered)",
  offsetofMailTsc: "offsetof(struct mailbox, tsc_low)",
};

const compiler = compilerOrReason();

describe("linux-case.ts against case.h", () => {
  it.skipIf(compiler.reason !== null)(`has the compiler's layout${compiler.note}`, () => {
    const lines = Object.entries(expressions).map(
      ([name, expression]) => `printf("%s=%llu\\n", "${name}", (unsigned long long)(${expression}));`,
    );
    const output = compileAndRun(
      `#include <stddef.h>\n#include <stdio.h>\n#include "case.h"\nint main(void) { ${lines.join("\n")} }`,
      folders.map((folder) => `-I${folder}`),
    );
    const actual = Object.fromEntries(
      output
        .trim()
        .split("\n")
        .map((line) => line.split("=")),
    );
    expect(actual).toEqual(
      Object.fromEntries(Object.entries(caseLayout).map(([name, value]) => [name, String(value)])),
    );
  });
});

describe("LinuxCase", () => {
  const setup = {
    programs: [{ cpl: 3, steps: [] }],
    path: "/file",
    mappings: [],
    windowBytes: 0x200000,
  } as const;
  const memory = () => new Uint8Array(caseLayout.sizeofLinuxCase);

  it("refuses what there is no room for, naming the limit", () => {
    const one = new LinuxCase(memory());
    const mapping = { at: 0n, fileOffset: 0n, length: 0x1000n };
    expect(() => one.configure({ ...setup, mappings: Array(17).fill(mapping) })).toThrow(
      "17 mappings: at most 16",
    );
    expect(() => one.configure({ ...setup, path: "x".repeat(4096) })).toThrow("at most 4095 bytes");
    expect(() => one.configure({ ...setup, path: "a\0b" })).toThrow("none of them zero");
    expect(() => one.task(104)).toThrow("task 104: expected 0 to 103");
  });

  it("bounds what a hostile guest writes", () => {
    const hostile = memory();
    const one = new LinuxCase(hostile);
    hostile.fill(0xff);
    expect(one.refusal).toHaveLength(caseLayout.MAX_REFUSAL_BYTES);
    expect(one.task(103)).toEqual({ pid: 0xffffffff, killedBy: 127 });
  });

  it("leaves nothing of the case before", () => {
    const shared = memory();
    const one = new LinuxCase(shared);
    shared.fill(0xff);
    one.configure(setup);
    expect(one.refusal).toBe("");
    expect(one.task(0)).toEqual({ pid: null, killedBy: null });
    expect(one.channel.result(0, 0).status).toBe("not-reached");
    expect(one.channel.taskState(channelLayout.MAX_TASKS - 1)).toBe("unused");
  });
});
