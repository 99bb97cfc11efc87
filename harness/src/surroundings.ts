/** What the user's surroundings lack or refuse: a folder, a limit, a device. No defect of ours; the message says what to do. */
export class SurroundingsError extends Error {
  override readonly name = "SurroundingsError";
}

const hints: Readonly<Partial<Record<string, string>>> = {
  ENOENT: "there is no such folder",
  ENOTDIR: "it is no folder",
  EACCES: "it may not be written by this user",
  EROFS: "it is on a read-only file system",
  ENOSPC: "its file system is full, or has no inodes left",
  EDQUOT: "the quota of its file system is used up",
  EMFILE: "this process has all the descriptors that it may have (ulimit -n)",
  ENFILE: "the machine has no descriptors left",
  ENAMETOOLONG: "its path is too long",
};

/** Why the temporary folder cannot be used; null: for a reason that says nothing of the surroundings. */
export function folderProblem(folder: string, error: unknown): string | null {
  const { code } = error as NodeJS.ErrnoException;
  const hint = code === undefined ? undefined : hints[code];
  if (hint === undefined) return null;
  // What is no UTF-8 comes as U+FFFD, and is another name then.
  const encoding = folder.includes("\u{fffd}") ? "; its name is not UTF-8, which Node needs" : "";
  return `temporary folder ${JSON.stringify(folder)}: ${hint} (${code})${encoding}. Next: set TMPDIR to a folder that this user can write`;
}
