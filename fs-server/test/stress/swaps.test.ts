/** Nobody gets out of the source while the host exchanges it for links, for a moment; swaps-main tries for ten minutes. */
import { describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { swaps, swapsVariants } from "../../src/stress/swaps.ts";
import { noMountBecause } from "../support/server.ts";
import { keepUringOnFor, lackOfMount } from "../support/uring.ts";

const OTHER_USER = 65_534;
const SECONDS = isLong ? 4 : 2;
const reason = process.geteuid?.() === 0 ? noMountBecause("devfuse") : "needs root to act as another user";
if (reason !== null) console.warn(`skipped: exchanges by the host: ${reason}`);

const chosen = swapsVariants.filter(({ name }) => isLong || name === "uncached");
const usable = chosen.filter(({ name, args }) => {
  const lack = name === "cached" ? null : lackOfMount(args);
  if (lack !== null) console.warn(`skipped: exchanges by the host, ${name}: ${lack}`);
  return name !== "cached" && lack === null;
});

describe.skipIf(reason !== null)("a host that exchanges folders for links out of the source", () => {
  for (const { args } of usable) keepUringOnFor(args);

  it.each(usable)("gets no client of another user out, $name", { timeout: 60_000 }, async (variant) => {
    const place = { base: temporaryDirectory(), variant, seconds: SECONDS, seed: 5, uid: OTHER_USER };
    const { breaches, counts, swaps: exchanges } = await swaps(place);
    expect(breaches).toEqual([]);
    expect(exchanges).toBeGreaterThan(100);
    // Both were met: folders, and links that the client's kernel may not follow to their end.
    for (const outcome of ["stat: done", "read: done", "!stat: ENOENT", "!stat: EACCES"]) {
      expect(counts[outcome], outcome).toBeGreaterThan(0);
    }
  });

  it("is seen where a client may follow the links by itself", { timeout: 60_000 }, async () => {
    const [variant] = swapsVariants;
    if (variant === undefined) throw new Error("no variants");
    const asRoot = { variant, seconds: 1, leastSteps: 1500, seed: 5, uid: 0 };
    const { breaches } = await swaps({ base: temporaryDirectory(), ...asRoot });
    for (const seen of [/^read what is outside/, /^stat of what is outside only/, /^changed outside/]) {
      expect(breaches).toContainEqual(expect.stringMatching(seen));
    }
  });
});
