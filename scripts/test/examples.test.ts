/** The examples for other people's job systems: whole files, and commands that run. */

import { execFileSync, spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { isLong } from "../../sys/test/support/long.ts";

/** A folder that looks like the checkout and may be written to. */
function copy(): string {
  const folder = mkdtempSync(join(tmpdir(), "daxfault-examples-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const name of readdirSync(".")) {
    if (name !== ".git") symlinkSync(join(process.cwd(), name), join(folder, name));
  }
  return folder;
}

const filter = "load-after-truncate --engine model";

describe("a checkout of links", () => {
  it("is not built again: others run from the same dist", () => {
    const before = statSync("dist/.built").mtimeMs;
    execFileSync("scripts/build", { cwd: copy() });
    expect(statSync("dist/.built").mtimeMs).toBe(before);
  });
});

describe("examples/slurm.sh", () => {
  it("runs its shard, and all of them make a whole report", () => {
    const cwd = copy();
    for (const index of ["1", "2"]) {
      const env = { ...process.env, FILTER: filter, SLURM_ARRAY_TASK_ID: index, SLURM_ARRAY_TASK_COUNT: "2" };
      execFileSync("examples/slurm.sh", { cwd, env, stdio: "ignore" });
    }
    const report = spawnSync("sh", ["-c", "scripts/daxfault report shard-*.jsonl"], {
      cwd,
      encoding: "utf8",
    });
    expect(report.status).toBe(0);
    expect(report.stdout).not.toContain("part of the run");
  });

  it("says what is missing outside of a job", () => {
    const { status, stderr } = spawnSync("examples/slurm.sh", { encoding: "utf8" });
    expect(status).not.toBe(0);
    expect(stderr).toContain("this is an array job");
  });
});

describe("examples/parallel.sh", () => {
  it.runIf(isLong)("runs shards side by side and reports them together", () => {
    const { status, stdout } = spawnSync("examples/parallel.sh", ["3", ...filter.split(" ")], {
      cwd: copy(),
      encoding: "utf8",
    });
    expect(stdout).toContain("Exit code 0");
    expect(stdout).not.toContain("part of the run");
    expect(status).toBe(0);
  });
});

describe("examples/github-actions.yml", () => {
  const text = readFileSync("examples/github-actions.yml", "utf8");

  it.runIf(isLong)("has shards that make a whole, and a report of them", () => {
    const shards =
      /shard: \[([0-9, ]+)\]/
        .exec(text)?.[1]
        ?.split(",")
        .map((one) => one.trim()) ?? [];
    const command = /run: (scripts\/daxfault run .*)$/m.exec(text)?.[1] ?? "";
    const merge = /run: (scripts\/daxfault report .*)$/m.exec(text)?.[1] ?? "";
    const cwd = copy();
    for (const shard of shards) {
      const line = command.replaceAll(/\$\{\{ matrix.shard \}\}/g, shard).replace("run ", `run ${filter} `);
      execFileSync("sh", ["-c", line], { cwd, stdio: "ignore" });
    }
    const env = { ...process.env, GITHUB_STEP_SUMMARY: join(cwd, "summary.md") };
    const { status } = spawnSync("sh", ["-c", merge], { cwd, env });
    expect(status).toBe(0);
    expect(readFileSync(join(cwd, "summary.md"), "utf8")).toMatch(
      /^## daxfault: everything went as expected/,
    );
    expect(readdirSync(cwd)).toEqual(expect.arrayContaining(["report.html", "junit.xml"]));
    expect(command).toContain(`/${shards.length} `);
  });
});

describe("examples/lava-job.yaml", () => {
  it("makes a test case of every line of the KTAP", () => {
    const text = readFileSync("examples/lava-job.yaml", "utf8");
    const step = /- (sed -n .*) \| sh$/m.exec(text)?.[1] ?? "";
    const folder = mkdtempSync(join(tmpdir(), "daxfault-examples-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    mkdirSync(join(folder, "tmp"));
    const ktap = join(folder, "tmp/daxfault.ktap");
    writeFileSync(
      ktap,
      "KTAP version 1\n1..1\n    KTAP version 1\n    1..4\n    ok 1 a x kvm\n    # fail: why\n    not ok 2 b x kvm\n    ok 3 c x kvm # SKIP no KVM\n    ok 4 d x kvm # XFAIL known\nnot ok 1 scenario\n",
    );
    const out = execFileSync("sh", ["-c", step.replaceAll("/tmp/daxfault.ktap", ktap)], { encoding: "utf8" });
    expect(out.trim().split("\n")).toEqual([
      'lava-test-case "a x kvm" --result pass',
      'lava-test-case "b x kvm" --result fail',
      'lava-test-case "c x kvm" --result skip',
      'lava-test-case "d x kvm" --result pass',
      'lava-test-case "scenario" --result fail',
    ]);
  });
});

const lacksForQemu =
  process.arch !== "x64"
    ? "not an x86-64 machine"
    : ["gcc", "qemu-system-x86_64"].find((program) => spawnSync(program, ["--version"]).status !== 0);

describe.skipIf(lacksForQemu !== undefined)(
  `examples/qemu/injected-twice (${lacksForQemu ?? "QEMU"})`,
  () => {
    it("delivers each injection once with one CPU", () => {
      const { status, stdout } = spawnSync("examples/qemu/injected-twice", ["1"], { encoding: "utf8" });
      expect(stdout).toBe("-smp 1\n128 injections, delivered more than once: 0\n");
      expect(status).toBe(0);
    });
  },
);
