/**
 * A source with more than one device: btrfs subvolumes, mounts inside, bind mounts, a mount whose server hangs, and its
 * own mount point. By (st_dev, st_ino) a client tells all files apart, and nothing waits.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { Session } from "../../src/core/session.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";
import { MemoryClient } from "../../src/transport/memory/client.ts";
import { tried } from "../support/calls.ts";
import { mountBtrfs, noBtrfsBecause } from "../support/loop.ts";
import { noMountBecause, type Server, serveExpectingEnd, startServer } from "../support/server.ts";

const reason = process.geteuid?.() === 0 ? noMountBecause("devfuse") : "needs root to mount";
const noBtrfs = reason ?? noBtrfsBecause();
if (noBtrfs !== null) console.warn(`skipped: btrfs under a mount: ${noBtrfs}`);

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function served(source: string, ...args: readonly string[]): Promise<{ at: string; server: Server }> {
  const at = temporaryDirectory();
  const server = await startServer(["--source", source, "--mountpoint", at, ...args]);
  undo.push(() => server.stop());
  return { at, server };
}

function mount(...args: readonly string[]): void {
  execFileSync("mount", [...args]);
  undo.push(() => spawnSync("umount", ["-l", args.at(-1) ?? ""]));
}

/** Every file below `folder`, by device and number; two names of one file are one. */
function identities(folder: string): Map<string, string> {
  const seen = new Map<string, string>();
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const { dev, ino } = statSync(join(folder, name), { bigint: true });
    seen.set(`${dev} ${ino}`, name);
  }
  return seen;
}

describe.skipIf(noBtrfs !== null)("two btrfs subvolumes", () => {
  function subvolumes(): string {
    const { path, unmount } = mountBtrfs(temporaryDirectory());
    undo.push(unmount);
    for (const name of ["one", "two"]) {
      execFileSync("btrfs", ["-q", "subvolume", "create", join(path, name)]);
      for (const file of ["a", "b"]) writeFileSync(join(path, name, file), `${name}'s ${file}`);
      execFileSync("ln", [join(path, name, "a"), join(path, name, "linked")]);
    }
    return path;
  }

  it("are told apart by a client, and copied as they are", async () => {
    const source = subvolumes();
    expect(statSync(join(source, "one/a")).ino).toBe(statSync(join(source, "two/a")).ino);
    const { at } = await served(source);
    // Of 2 folders with 2 files of 3 names each.
    expect(identities(at).size).toBe(6);
    const copy = join(temporaryDirectory(), "copy");
    execFileSync("sh", ["-c", `tar -C ${at} -cf - . | (mkdir ${copy} && tar -C ${copy} -xf -)`]);
    expect(readFileSync(join(copy, "two/a"), "utf8")).toBe("two's a");
    expect(spawnSync("diff", ["-r", source, copy]).stdout.toString()).toBe("");
    expect(statSync(join(copy, "two/linked")).nlink).toBe(2);
  });

  it("are listed with the numbers that their files have", async () => {
    const { at } = await served(subvolumes());
    const listed = execFileSync("ls", ["-i1", join(at, "two")], { encoding: "utf8" });
    const numbers = listed
      .trim()
      .split("\n")
      .map((line) => line.trim().split(" ")[0]);
    const names = ["a", "b", "linked"].map((name) =>
      String(statSync(join(at, "two", name), { bigint: true }).ino),
    );
    expect(numbers).toEqual(names);
  });
});

describe.skipIf(reason !== null)("mounts inside the source", () => {
  function withMount(): string {
    const source = temporaryDirectory();
    for (const name of ["one", "two"]) {
      mkdirSync(join(source, name));
      mount("-t", "tmpfs", "none", join(source, name));
      writeFileSync(join(source, name, "file"), name);
    }
    return source;
  }

  it("are EXDEV, every time", async () => {
    const { at } = await served(withMount());
    for (let i = 0; i < 3; i += 1) {
      expect(readdirSync(at).sort()).toEqual(["one", "two"]);
      for (const name of ["one", "two/file"]) expect(tried(() => statSync(join(at, name)))).toBe("EXDEV");
    }
  });

  it("are crossed by --announce-submounts, with numbers of their own", async () => {
    const { at } = await served(withMount(), "--announce-submounts");
    expect(readFileSync(join(at, "two/file"), "utf8")).toBe("two");
    expect(identities(at).size).toBe(4);
  });

  it("are marked for a kernel that takes it", () => {
    const fs = new PassthroughFileSystem(withMount(), { crossMounts: true });
    undo.push(() => fs.close());
    const client = new MemoryClient(new Session({ fs, announceSubmounts: true }));
    client.init();
    const { body } = client.call("LOOKUP", { node: 1n, names: ["one"] });
    // fuse_entry_out.attr.flags, the last field.
    expect(body.getUint32(body.byteLength - 4, true)).toBe(1);
  });

  it("by bind of an inode that is known are EXDEV as before it was known", async () => {
    const source = temporaryDirectory();
    for (const name of ["known", "bind"]) mkdirSync(join(source, name));
    writeFileSync(join(source, "known/file"), "x");
    mount("--bind", join(source, "known"), join(source, "bind"));
    const { at } = await served(source);
    const before = tried(() => statSync(join(at, "bind/file")));
    expect(statSync(join(at, "known/file")).size).toBe(1);
    expect([before, tried(() => statSync(join(at, "bind/file")))]).toEqual(["EXDEV", "EXDEV"]);
  });

  it("that hang hold nothing up", async () => {
    const [source, other] = [temporaryDirectory(), temporaryDirectory()];
    mkdirSync(join(source, "hung"));
    writeFileSync(join(source, "file"), "x");
    const hung = await startServer([
      "--source",
      other,
      "--mountpoint",
      join(source, "hung"),
      "--attr-timeout",
      "0",
    ]);
    undo.push(async () => {
      process.kill(hung.pid, "SIGCONT");
      await hung.stop();
    });
    const { at } = await served(source);
    process.kill(hung.pid, "SIGSTOP");
    // By another process: one that waits can be given up.
    const inTime = (command: string) =>
      spawnSync("timeout", ["-s", "KILL", "5", "sh", "-c", `cd ${at}; ${command}`], { encoding: "utf8" });
    for (const command of [
      "stat hung",
      "cat hung/name",
      "ls -l hung",
      "mkdir hung/new",
      "rmdir hung",
      "mv file hung/file",
      "mv hung other",
      "ls -lR",
    ]) {
      const { status, stderr } = inTime(command);
      expect([command, stderr, status]).toEqual([
        command,
        expect.stringContaining("Invalid cross-device link"),
        expect.not.toBeOneOf([0, 137]),
      ]);
    }
    expect(inTime("stat -c %s file; find . -maxdepth 1").stdout.split("\n").sort()).toEqual(
      ["", ".", "./file", "./hung", "1"].sort(),
    );
  });
});

describe.skipIf(reason !== null)("a mount point", () => {
  it.each([".", "folder", "folder/deep"])("that is %s of its own source is refused", async (below) => {
    const source = temporaryDirectory();
    mkdirSync(join(source, "folder/deep"), { recursive: true });
    if (below === ".") execFileSync("rm", ["-r", join(source, "folder")]);
    if (below === "folder") execFileSync("rm", ["-r", join(source, "folder/deep")]);
    chmodSync(source, 0o755);
    const other = join(temporaryDirectory(), "link");
    symlinkSync(source, other);
    const { code, stderr } = await serveExpectingEnd([
      "--source",
      other,
      "--mountpoint",
      join(source, below),
    ]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/lies inside the source|is its own source/)]);
  });
});
