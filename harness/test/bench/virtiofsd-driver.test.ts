/** The driver of `bench virtiofsd`, with our server in both places: what it sends is answered, whatever that takes. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { driverFigures } from "../../src/bench/virtiofsd-driver.ts";
import { driverRowNames } from "../../src/bench/virtiofsd-turns.ts";
import { type Server, startServer } from "../../src/bench/virtiofsd-vm.ts";
import { caseFolder } from "../support/folders.ts";

const FILES = 10;
const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serving(directory: string, name: string): Promise<Server> {
  const source = join(directory, name);
  mkdirSync(join(source, "tree", "folder-0"), { recursive: true });
  writeFileSync(join(source, "data"), Buffer.alloc(2 ** 21, "x"));
  for (let i = 0; i < FILES; i += 1) writeFileSync(join(source, "tree", "folder-0", `file-${i}`), "");
  const server = await startServer("ours", source, name, { peer: [], directory });
  servers.push(server);
  return server;
}

it("has each row's requests answered by both servers, and writes what it says", async () => {
  const directory = caseFolder();
  const [ours, theirs] = await Promise.all([serving(directory, "a"), serving(directory, "b")]);
  const { rows, requests } = driverFigures({ ours, theirs }, 2);
  expect(requests).toBe(2);
  expect(rows.map(({ row }) => row)).toEqual(driverRowNames);
  for (const { row, ours: us, theirs: them, ratio, oursCpu } of rows) {
    expect(
      [us, them, oursCpu].every((figure) => figure > 0 && Number.isFinite(figure)),
      row,
    ).toBe(true);
    expect(ratio.lowest).toBeLessThanOrEqual(ratio.median);
    expect(ratio.median).toBeLessThanOrEqual(ratio.highest);
  }
  const written = readFileSync(join(directory, "b", "data"), "latin1");
  expect(written.startsWith("data".repeat(2048))).toBe(true);
  expect(written.slice(8192)).toBe("x".repeat(2 ** 21 - 8192));
});
