/** Watching over files of processes of other users and namespaces, and of names that are an attack; processes that end meanwhile. */
import { unlinkSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isLong } from "../../../sys/test/support/long.ts";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import { newsText } from "../../src/protect/news.ts";
import { Protector } from "../../src/protect/protector.ts";
import { visibleData } from "../../src/report/encode.ts";
import { childOf, fileForAll, startMapping, strangers } from "../support/mapping.ts";
import { noPermissionEvents } from "../support/permission-events.ts";
import { protecting } from "../support/protecting.ts";
import { Truncating } from "../support/truncating.ts";

const BYTES = 2 * 2 ** 20;
const BOUND_MS = 20_000;
const refused = { errnos: { ETXTBSY: 1 }, sizeBytes: BYTES };

const newFile = (name = "guest ram"): string => fileForAll(name, BYTES);

const reason = noPermissionEvents();
describe.skipIf(reason !== null)(`protect${reason === null ? "" : ` (${reason})`}, of a process`, () => {
  it("of another user, in namespaces of mounts and PIDs of its own: its file does not get shorter", async () => {
    const path = newFile();
    const truncating = await Truncating.start(path);
    const { pid, touch } = await startMapping([path], strangers);
    await protecting({ pids: [childOf(pid)] });
    expect(await truncating.try("truncate")).toEqual(refused);
    expect(await truncating.try("ftruncate-old-fd")).toEqual(refused);
    expect(await touch()).toBe("touched");
  });

  it("whose file has been deleted: its inode does not get shorter", async () => {
    const path = newFile();
    const truncating = await Truncating.start(path);
    const { pid, touch } = await startMapping([path]);
    unlinkSync(path);
    const { said } = await protecting({ pids: [pid] });
    expect(await truncating.try("ftruncate-old-fd")).toEqual(refused);
    expect(await said("refused")).toMatchObject({ path });
    expect(await touch()).toBe("touched");
  });

  it("whose file has an attack for a name: what is said is text", async () => {
    const path = newFile("a\n\u001b]0;x\u0007\u001b[31mred\u009b (deleted)");
    const truncating = await Truncating.start(path);
    const { pid } = await startMapping([path]);
    const { said, news } = await protecting({ pids: [pid] });
    expect(await truncating.try("truncate")).toEqual(refused);
    await said("refused");
    for (const one of news) {
      const text = newsText(visibleData(one));
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
      expect(text).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    }
    expect(news.some((one) => newsText(one).includes("red"))).toBe(true);
  });

  it("that ends, whenever that is: the watch is over, and others cut the file", async () => {
    for (const afterMs of isLong ? [0, 5, 20, 50, 200, 500] : [20]) {
      const path = newFile();
      const mapping = await startMapping([path]);
      const truncating = await Truncating.start(path);
      const options = { pids: [mapping.pid], folder: null, allow: [], seal: false };
      const protector = new Protector(new ThisHost(), options, () => {});
      try {
        expect(protector.missing()).toEqual([]);
        setTimeout(() => void mapping.end(), afterMs);
        expect(await protector.run(AbortSignal.timeout(BOUND_MS))).toEqual({ kind: "no-process-left" });
      } finally {
        await protector.close();
      }
      expect((await truncating.try("truncate")).errnos).toEqual({ done: 1 });
    }
  });
});
