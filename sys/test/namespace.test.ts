import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const compiled = new URL("../../dist/sys/src/namespace.js", import.meta.url).pathname;

/** Below a changed root, in a namespace of its own: what `script` prints. Throws where this user may not. */
function belowOtherRoot(script: string): string {
  const folder = mkdtempSync(join(tmpdir(), "daxfault-root-"));
  const commands = [
    'mount --rbind / "$0"',
    'mount -t tmpfs none "$0/mnt"',
    'mkdir "$0/mnt/here"',
    'exec chroot "$0" "$1" --input-type=module --eval "$2"',
  ].join(" && ");
  try {
    const words = ["--mount", "sh", "-c", commands, folder, process.execPath, script];
    return execFileSync("unshare", words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function refusal(): string | null {
  try {
    belowOtherRoot("");
    return null;
  } catch (error) {
    return String(error).split("\n").at(-2) ?? "refused";
  }
}

const reason = refusal();
const note = reason === null ? "" : ` (skipped: ${reason})`;

describe.skipIf(reason !== null)(`a mount namespace of one's own${note}`, () => {
  it("is left with the root and the folder that one had, as often as one likes", () => {
    const script = `
      import { existsSync } from "node:fs";
      import { inOwnMountNamespace } from ${JSON.stringify(compiled)};
      process.chdir("/mnt/here");
      const inside = [0, 1].map(() => inOwnMountNamespace(() => existsSync("/mnt/here")));
      console.log(JSON.stringify([...inside, existsSync("/mnt/here"), process.cwd()]));
    `;
    expect(JSON.parse(belowOtherRoot(script))).toEqual([true, true, true, "/mnt/here"]);
  });
});
