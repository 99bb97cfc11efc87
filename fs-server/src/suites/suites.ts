/**
 * Outside judges of a file system: programs that others wrote, run in a folder. What they complain about there is
 * compared with what they complain about in the folder underneath.
 */
import { join } from "node:path";
import { fsx } from "../stress/fsx.ts";
import { makeRepository, makeTree } from "./material.ts";
import { npm } from "./npm.ts";
import { overlayLower, overlayUpper } from "./overlay.ts";
import { sqlite } from "./sqlite.ts";
import { command, complaint, type Effort, type Suite } from "./suite.ts";

const RANDOM_OPERATIONS: Readonly<Record<Effort, number>> = { whole: 5000, short: 500 };

const random: Suite = {
  name: "random operations",
  needs: [],
  isAboutContent: true,
  run: async ({ folder, effort }) => {
    const { unsupported, wrong } = fsx(join(folder, "file"), 7, RANDOM_OPERATIONS[effort]);
    return [...(unsupported > 0 ? ["fallocate is refused"] : []), ...(wrong === null ? [] : [wrong])];
  },
};

const FIO = ["--thread", "--verify=crc32c", "--verify_fatal=1", "--fallocate=none", "--output-format=terse"];

/** KiB of each file. */
const FIO_SIZES: Readonly<Record<Effort, { mixed: number; mapped: number; four: number; appended: number }>> =
  {
    whole: { mixed: 16_384, mapped: 8192, four: 8192, appended: 4096 },
    short: { mixed: 2048, mapped: 2048, four: 1024, appended: 256 },
  };

const fio: Suite = {
  name: "fio --verify",
  needs: ["fio"],
  isAboutContent: true,
  run: async ({ folder, effort, signal }) => {
    const sizes = FIO_SIZES[effort];
    const where = { cwd: folder, signal };
    const job = (name: string, ...more: string[]): Promise<readonly string[]> =>
      complaint(name, ["fio", `--name=${name}`, `--directory=${folder}`, ...FIO, ...more], where);
    return [
      ...(await job(
        "mixed",
        "--rw=randrw",
        `--size=${sizes.mixed}k`,
        "--bsrange=512-128k",
        "--ioengine=psync",
      )),
      ...(await job("mapped", "--rw=randwrite", `--size=${sizes.mapped}k`, "--bs=4k", "--ioengine=mmap")),
      ...(await job(
        "four",
        "--rw=write",
        `--size=${sizes.four}k`,
        "--bs=256k",
        "--numjobs=4",
        "--ioengine=psync",
      )),
      ...(await job("appended", "--rw=write", `--size=${sizes.appended}k`, "--bs=3000", "--file_append=1")),
    ];
  },
};

/** Source files of the program that is made. */
const MODULES: Readonly<Record<Effort, number>> = { whole: 12, short: 4 };

const git: Suite = {
  name: "git and make",
  needs: ["git", "make", "gcc"],
  isAboutContent: true,
  run: async ({ folder, beside, effort, signal }) => {
    const origin = join(beside, "origin");
    await makeRepository(origin, MODULES[effort]);
    const clone = join(folder, "clone");
    const steps: readonly (readonly [string, readonly string[], string])[] = [
      ["clone", ["git", "clone", "-q", origin, clone], folder],
      ["fsck", ["git", "fsck", "--strict", "--no-progress"], clone],
      ["make", ["make", "-s", "-j2"], clone],
      ["run", ["./program"], clone],
      ["nothing to make", ["make", "-q"], clone],
      ["clean", ["sh", "-c", 'test -z "$(git status --porcelain)"'], clone],
      ["older", ["git", "checkout", "-q", "HEAD~1"], clone],
      ["newer", ["git", "checkout", "-q", "-"], clone],
      ["gc", ["git", "gc", "-q", "--prune=now"], clone],
      ["same", ["git", "diff", "--exit-code", "--stat", "HEAD"], clone],
    ];
    const complaints: string[] = [];
    for (const [title, args, cwd] of steps)
      complaints.push(...(await complaint(title, args, { cwd, signal })));
    return complaints;
  },
};

const ARCHIVE = ["-aHAXS", "--numeric-ids"];

const rsync: Suite = {
  name: "rsync there and back",
  needs: ["rsync"],
  isAboutContent: false,
  run: async ({ folder, beside, signal }) => {
    const where = { cwd: beside, signal };
    const [tree, back] = [join(beside, "tree"), join(beside, "back")];
    makeTree(tree);
    const there = join(folder, "there");
    const complaints = [
      ...(await complaint("there", ["rsync", ...ARCHIVE, `${tree}/`, `${there}/`], where)),
      ...(await complaint("back", ["rsync", ...ARCHIVE, `${there}/`, `${back}/`], where)),
    ];
    for (const copy of [there, back]) {
      const compare = ["-n", "--checksum", "--delete", "--itemize-changes", `${tree}/`, `${copy}/`];
      const { output } = await command("rsync", [...ARCHIVE, ...compare], where);
      const lines = output.split("\n").filter((line) => line.trim() !== "");
      complaints.push(...lines.map((line) => `${copy === there ? "there" : "back"}: ${line}`));
    }
    return complaints;
  },
};

/** Stressors of stress-ng's class filesystem that act on files of the folder, not on the system. */
const STRESSORS =
  "access chmod chown copy-file dentry dir dup fallocate fiemap filename flock fpunch getdent iomix link locka " +
  "lockofd mknod mmap open rename seek sendfile splice symlink utime xattr";
const STRESSOR_OPERATIONS = 20;
const STRESSOR_SECONDS = 1;
/** Its message: this system does not have what the stressor needs. */
const NOT_IMPLEMENTED = 4;

const stress: Suite = {
  name: "stress-ng",
  needs: ["stress-ng"],
  isAboutContent: false,
  run: async ({ folder, signal }) => {
    const complaints: string[] = [];
    for (const name of STRESSORS.split(" ")) {
      const args = [`--${name}`, "1", `--${name}-ops`, String(STRESSOR_OPERATIONS), "--verify"];
      const limits = ["--timeout", String(STRESSOR_SECONDS), "--temp-path", folder];
      const { code, output } = await command("stress-ng", [...args, ...limits], { cwd: folder, signal });
      if (code === 0) continue;
      const what = /^stress-ng: (?:fail|error): *\[\d+\] (.*)$/m.exec(output)?.[1] ?? "";
      const words = code === NOT_IMPLEMENTED ? "not implemented" : `ends with ${code}: ${what}`;
      complaints.push(`${name}: ${words.replaceAll(/\d{3,}/g, "N").replaceAll(folder, "")}`);
    }
    return complaints;
  },
};

/** Each failing test of pjdfstest, which the user builds. `checkout` holds the program and `tests/`. */
function pjdfstest(checkout: string): Suite {
  return {
    name: "pjdfstest",
    needs: ["prove"],
    isAboutContent: false,
    run: async ({ folder, signal }) => {
      const { output } = await command("prove", ["-rv", join(checkout, "tests")], { cwd: folder, signal });
      const complaints: string[] = [];
      let file = "";
      let subtests = 0;
      for (const line of output.split("\n")) {
        file = /tests\/(\S+\.t) \.\./.exec(line)?.[1] ?? file;
        if (/^(?:not )?ok \d+/.test(line)) subtests += 1;
        // Tests marked "to do" are known to fail everywhere; the harness of TAP does not count them either.
        if (/^not ok \d+(?! *# *TO.O)/.test(line)) complaints.push(`${file} ${line.trim()}`);
      }
      console.log(`pjdfstest: ${subtests} subtests in ${folder}`);
      return subtests === 0 ? [`nothing ran: is ${checkout}/pjdfstest built?`] : complaints;
    },
  };
}

/** The suites that are always run, and pjdfstest where its built checkout is given. */
export function suites(pjdfstestCheckout: string | null): readonly Suite[] {
  const always = [random, fio, git, rsync, stress, sqlite, npm, overlayLower, overlayUpper];
  return pjdfstestCheckout === null ? always : [...always, pjdfstest(pjdfstestCheckout)];
}
