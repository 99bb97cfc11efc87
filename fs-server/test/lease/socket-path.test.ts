/** Servers that start at the same moment over one stale socket: one of them has the name, the others say so. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { compiledEntry } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";

const ROUNDS = 10;
const built = (path: string): string => {
  const url = compiledEntry(new URL("../../../dist/fs-server/src/index.js", import.meta.url).href, path);
  return fileURLToPath(url);
};

/** Binds like a server. Says `ready`, gets a line on its stdin, and says `bound` or why not. */
const PROGRAM = `
const { createServer } = await import("node:net");
const { withSocketPath } = await import(process.argv[1]);
const path = process.argv[2];
process.stdout.write("ready\\n");
process.stdin.once("data", () => {
  const server = createServer((socket) => socket.on("error", () => {}));
  const bind = () => new Promise((resolve, reject) => {
    server.once("listening", resolve);
    server.once("error", reject);
    server.listen(path);
  });
  withSocketPath(path, bind).then(
    () => process.stdout.write("bound\\n"),
    (error) => process.stdout.write(error.message + "\\n"),
  );
});
`;

class Contestant {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #onLine: () => void = () => {};

  constructor(path: string) {
    const args = ["--input-type=module", "-e", PROGRAM, built("./lease/socket-path.ts"), path];
    this.#child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void this.#child.kill("SIGKILL"));
    this.#child.stdout?.on("data", (data: Buffer) => {
      this.#lines.push(...data.toString().trim().split("\n"));
      this.#onLine();
    });
  }

  async line(): Promise<string> {
    while (this.#lines.length === 0) {
      await new Promise<void>((resolve) => {
        this.#onLine = resolve;
      });
    }
    return this.#lines.shift() ?? "";
  }

  go(): void {
    this.#child.stdin?.write("go\n");
  }

  async kill(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}

describe("a stale socket", () => {
  it("goes to one of two servers that start at once", { timeout: 120_000 }, async () => {
    const path = join(temporaryDirectory(), "leases");
    for (let round = 0; round < ROUNDS; round += 1) {
      const both = [new Contestant(path), new Contestant(path)];
      for (const one of both) expect(await one.line()).toBe("ready");
      for (const one of both) one.go();
      const said = (await Promise.all(both.map((one) => one.line()))).toSorted();
      expect(said).toEqual(["bound", expect.stringContaining("another process listens there")]);
      // Killed, they leave the name behind: stale in the next round.
      for (const one of both) await one.kill();
      expect(existsSync(path)).toBe(true);
    }
  });

  it("is not looked at while another process has the folder", async () => {
    const { withSocketPath } = await import("../../src/lease/socket-path.ts");
    const path = join(temporaryDirectory(), "leases");
    const order: string[] = [];
    let release = (): void => {};
    const first = withSocketPath(path, async () => {
      order.push("first");
      await new Promise<void>((resolve) => {
        release = resolve;
      });
    });
    const second = withSocketPath(path, async () => void order.push("second"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(order).toEqual(["first"]);
    release();
    await Promise.all([first, second]);
    expect(order).toEqual(["first", "second"]);
  });
});
