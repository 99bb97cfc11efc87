/**
 * overlayfs with the judged folder as its lower layer, and as its upper one: what containers do with a shared folder. The
 * same changes are made in the merged folder and in a plain one; both must list the same, also after another mount, and the
 * lower layer must stay as it was. A FUSE file system is taken as upper layer only with entry types, RENAME_WHITEOUT and
 * extended attributes (fs/overlayfs/super.c, ovl_make_workdir).
 */
import { createHash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fsx } from "../stress/fsx.ts";
import { command, type Effort, type Place, type Suite } from "./suite.ts";

const FILES: Readonly<Record<Effort, number>> = { whole: 60, short: 10 };
const RANDOM_OPERATIONS: Readonly<Record<Effort, number>> = { whole: 1500, short: 200 };

/** What the lower layer holds. */
function makeLower(folder: string, files: number): void {
  for (const name of ["kept", "emptied", "removed/deep", "renamed/deep", "replaced"]) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  for (let i = 0; i < files; i += 1) writeFileSync(join(folder, "kept", `file-${i}`), "k".repeat(i * 1237));
  for (const name of ["removed/deep/a", "renamed/deep/a", "emptied/a", "emptied/b", "replaced/a", "large"]) {
    writeFileSync(join(folder, name), name.repeat(9000));
  }
  // Of a file that is not changed: copy-up breaks links (index=off).
  linkSync(join(folder, "kept/file-4"), join(folder, "kept/hard-link"));
  symlinkSync("file-3", join(folder, "kept/link"));
  chmodSync(join(folder, "kept/file-2"), 0o4755);
}

/** What a user of the merged folder does: copy-up, whiteouts, an opaque folder, a folder of the lower layer renamed. */
function change(folder: string): void {
  const at = (name: string): string => join(folder, name);
  appendFileSync(at("kept/file-5"), "appended");
  truncateSync(at("kept/file-9"), 100);
  chmodSync(at("kept/file-1"), 0o600);
  renameSync(at("kept/file-6"), at("kept/renamed"));
  rmSync(at("kept/file-7"));
  rmSync(at("removed"), { recursive: true });
  rmSync(at("emptied/a"));
  rmSync(at("emptied/b"));
  rmdirSync(at("emptied"));
  rmSync(at("replaced"), { recursive: true });
  mkdirSync(at("replaced"));
  writeFileSync(at("replaced/new"), "new");
  renameSync(at("renamed"), at("elsewhere"));
  writeFileSync(at("elsewhere/deep/b"), "b");
  linkSync(at("elsewhere/deep/b"), at("second name"));
  symlinkSync("large", at("new link"));
  appendFileSync(at("large"), "more");
  writeFileSync(at("made"), "made");
  renameSync(at("made"), at("kept/file-8"));
}

/** A line for each entry: type, mode, size, content. Inode numbers, times and link counts are overlayfs's own. */
function listing(folder: string): readonly string[] {
  const lines: string[] = [];
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  for (const name of names) {
    const path = join(folder, name);
    const stat = lstatSync(path);
    const content = stat.isSymbolicLink()
      ? readlinkSync(path)
      : stat.isFile()
        ? createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 16)
        : "";
    const size = stat.isFile() ? stat.size : 0;
    lines.push(`${name} ${stat.mode.toString(8)} ${size} ${content}`);
  }
  return lines;
}

/** Complaints about what the second listing has otherwise. */
function differing(title: string, right: readonly string[], seen: readonly string[]): readonly string[] {
  return [
    ...right.filter((line) => !seen.includes(line)).map((line) => `${title}: lacks ${line}`),
    ...seen.filter((line) => !right.includes(line)).map((line) => `${title}: has ${line}`),
  ];
}

type Layers = { readonly lower: string; readonly upper: string; readonly work: string };

async function judged(layers: Layers, { beside, effort, signal }: Place): Promise<readonly string[]> {
  const [plain, merged] = [join(beside, "plain"), join(beside, "merged")];
  for (const folder of [...Object.values(layers), plain, merged]) mkdirSync(folder);
  makeLower(layers.lower, FILES[effort]);
  const before = listing(layers.lower);
  makeLower(plain, FILES[effort]);
  change(plain);
  const where = { cwd: beside, signal };
  const { lower, upper, work } = layers;
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},redirect_dir=on,index=off,metacopy=off`;
  const mount = () => command("mount", ["-t", "overlay", "overlay", "-o", options, merged], where);
  const unmount = () => command("umount", [merged], { cwd: beside, signal: new AbortController().signal });
  const complaints: string[] = [];
  const first = await mount();
  if (first.code !== 0)
    return [`does not mount: ${first.output.trim().split("\n")[0]?.replaceAll(beside, "")}`];
  try {
    complaints.push(...differing("before", before, listing(merged)));
    change(merged);
    complaints.push(...differing("changed", listing(plain), listing(merged)));
    const { wrong } = fsx(join(merged, "random"), 11, RANDOM_OPERATIONS[effort]);
    if (wrong !== null) complaints.push(`random operations: ${wrong}`);
    rmSync(join(merged, "random"));
  } finally {
    await unmount();
  }
  const second = await mount();
  if (second.code !== 0) return [...complaints, "does not mount again"];
  try {
    complaints.push(...differing("mounted again", listing(plain), listing(merged)));
    complaints.push(...differing("lower layer", before, listing(lower)));
    // What one layer cannot remove is left behind: opaque folders, whiteouts, redirects.
    for (const name of readdirSync(merged)) rmSync(join(merged, name), { recursive: true });
    complaints.push(...listing(merged).map((line) => `after all was removed: ${line}`));
  } finally {
    await unmount();
  }
  return complaints;
}

function lack(): string | null {
  if (process.geteuid?.() !== 0) return "mounting an overlay takes root: sudo scripts/check-posix";
  if (/\boverlay$/m.test(readFileSync("/proc/filesystems", "utf8"))) return null;
  return "this kernel has no overlayfs loaded: modprobe overlay";
}

const about = { needs: ["mount", "umount"], lack, isAboutContent: true } as const;

export const overlayLower: Suite = {
  ...about,
  name: "overlayfs, lower layer",
  run: (place) => {
    const [lower, upper, work] = [
      join(place.folder, "lower"),
      join(place.beside, "upper"),
      join(place.beside, "work"),
    ];
    return judged({ lower, upper, work }, place);
  },
};

export const overlayUpper: Suite = {
  ...about,
  name: "overlayfs, upper layer",
  run: (place) => {
    const [lower, upper, work] = [
      join(place.beside, "lower"),
      join(place.folder, "upper"),
      join(place.folder, "work"),
    ];
    return judged({ lower, upper, work }, place);
  },
};
