/** One user's folders on a real mount are no limit for another user: the server has few descriptors, and needs no more. */
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { FileHandles } from "../../src/passthrough/file-handles.ts";
import { noMountBecause, startServer } from "../support/server.ts";

const LIMIT = 1024;
/** All of them have to fit into PATH_MAX. */
const FOLDERS = 1500;

const probe = FileHandles.open(Buffer.from(`${temporaryDirectory()}\0`));
probe?.close();
const usable = noMountBecause("devfuse") === null && process.geteuid?.() === 0 && probe !== null;

/** A shell script as another user. */
function as(uid: number, script: string): { readonly code: number | null; readonly text: string } {
  const words = ["--reuid", String(uid), "--clear-groups", "sh", "-c", script];
  const { status, stdout, stderr } = spawnSync("setpriv", words, { encoding: "utf8" });
  return { code: status, text: `${stdout}${stderr}` };
}

describe.skipIf(!usable)(`a server that may have ${LIMIT} descriptors`, () => {
  it.runIf(isLong)(
    `has room for ${FOLDERS} folders of one user in one another, and for the next user`,
    async () => {
      const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
      for (const path of [source, mounted]) chmodSync(path, 0o777);
      writeFileSync(join(source, "other"), "other");
      // Root without CAP_SYS_RESOURCE cannot raise the limit again.
      const limited = ["prlimit", `--nofile=${LIMIT}`, "setpriv", "--bounding-set=-sys_resource"];
      const server = await startServer(["--source", source, "--mountpoint", mounted], limited);
      try {
        const ten = Array.from({ length: 10 }, () => "d").join("/");
        const nest = `cd ${mounted}; for i in $(seq ${FOLDERS / 10}); do mkdir -p ${ten} && cd ${ten} || exit 1; done`;
        const nested = as(1111, nest);
        expect(nested).toEqual({ code: 0, text: "" });
        expect(readdirSync(`/proc/${server.pid}/fd`).length).toBeLessThan(LIMIT);
        expect(as(2222, `cat ${mounted}/other && mkdir ${mounted}/mine`)).toEqual({ code: 0, text: "other" });
      } finally {
        expect((await server.stop()).code).toBe(0);
        // Too deep for rmSync().
        execFileSync("rm", ["-rf", join(source, "d")]);
      }
    },
    120_000,
  );

  const many = isLong ? 100_000 : 2000;

  it(`lists ${many} files and opens each`, async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const names = Array.from({ length: many }, (_, i) => `file-${i}`);
    for (const name of names) writeFileSync(join(source, name), name);
    const limited = ["prlimit", `--nofile=${LIMIT}`, "setpriv", "--bounding-set=-sys_resource"];
    const server = await startServer(["--source", source, "--mountpoint", mounted], limited);
    try {
      const listed = execFileSync("ls", ["-l", mounted], { encoding: "utf8", maxBuffer: 2 ** 28 });
      expect(listed.trim().split("\n").length).toBe(many + 1);
      const wrong = names.filter((name) => readFileSync(join(mounted, name), "utf8") !== name);
      expect(wrong).toEqual([]);
      expect(readdirSync(`/proc/${server.pid}/fd`).length).toBeLessThan(LIMIT);
    } finally {
      expect((await server.stop()).code).toBe(0);
      // Longer than a hook may take.
      execFileSync("rm", ["-rf", source]);
    }
  }, 600_000);

  it("says at start how few files it can know without file handles, and refuses where they are mandatory", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const args = ["--source", source, "--mountpoint", mounted];
    const server = await startServer([...args, "--inode-file-handles=never"]);
    const { stderr } = await server.stop();
    expect(stderr).toMatch(/holds a descriptor: \d+ files at once, then ENFILE/);
    const words = ["setpriv", "--bounding-set=-dac_read_search"];
    await expect(startServer([...args, "--inode-file-handles=mandatory"], words)).rejects.toThrow(
      "CAP_DAC_READ_SEARCH is missing",
    );
  });
});
