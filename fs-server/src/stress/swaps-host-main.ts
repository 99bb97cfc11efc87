/**
 * The host, hostile: `swaps-host-main SOURCE SEED` exchanges folders and files of the source for symbolic links out of it
 * (renameat2(2), RENAME_EXCHANGE) until it is sent SIGTERM. Prints how often.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { files } from "../../../sys/src/index.ts";
import { succeeded } from "../fs/errors.ts";
import { Random } from "../fuzz/generate.ts";
import { EXCHANGES } from "./swaps-tree.ts";

const BURST = 16;
/** Clients get a turn on a machine of two CPUs. */
const PAUSE_MS = 1;

type Place = { readonly fd: number; readonly name: Uint8Array };

async function main(): Promise<void> {
  const [source = ".", seed = "1"] = process.argv.slice(2);
  const random = new Random(Number(seed));
  const opened = new Map<string, number>();
  const at = ({ folder, name }: { readonly folder: string; readonly name: string }): Place => {
    const path = files.pathBytes(join(source, folder));
    const fd = opened.get(folder) ?? succeeded(files.openat(files.AT_FDCWD, path, files.O_PATH));
    opened.set(folder, fd);
    return { fd, name: files.pathBytes(name) };
  };
  const pairs = EXCHANGES.map(([one, other]) => [at(one), at(other)] as const);
  let swaps = 0;
  let isOver = false;
  process.once("SIGTERM", () => {
    isOver = true;
  });
  console.log("begun");
  while (!isOver) {
    for (let i = 0; i < BURST; i += 1) {
      const [one, other] = random.pick(pairs);
      // EINVAL where one would end up below itself.
      const result = files.renameat2(one.fd, one.name, other.fd, other.name, files.RENAME_EXCHANGE);
      if (result === 0) swaps += 1;
    }
    await sleep(PAUSE_MS);
  }
  console.log(JSON.stringify({ swaps }));
}

await main();
