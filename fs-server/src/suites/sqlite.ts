/**
 * sqlite3 with a write-ahead log: two writers at once, a third that is killed on the way, then what the database itself
 * says about its state. The log's index is a shared mapping (db-shm), its locks are POSIX locks of byte ranges.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { command, type Effort, type Place, type Result, type Suite } from "./suite.ts";

const DATABASE = "database";
const BUSY_TIMEOUT_MS = 120_000;
/** A writer of a few thousand transactions has begun, and has not ended. */
const KILLED_AFTER_MS = 150;

/** Transactions of each writer. */
const TRANSACTIONS: Readonly<Record<Effort, number>> = { whole: 150, short: 15 };

const SETTINGS = `.bail on\n.timeout ${BUSY_TIMEOUT_MS}\n`;

const SCHEMA = `
PRAGMA journal_mode=WAL;
PRAGMA wal_autocheckpoint=40;
CREATE TABLE entry(writer INTEGER, number INTEGER, content BLOB, PRIMARY KEY(writer, number));
CREATE TABLE total(only INTEGER PRIMARY KEY, entries INTEGER);
INSERT INTO total VALUES(1, 0);
`;

/** Each transaction is an entry, and one more in the total of both writers: one that is lost shows. */
function writes(writer: number, count: number): string {
  const one = (number: number): string =>
    `BEGIN IMMEDIATE; INSERT INTO entry VALUES(${writer}, ${number}, randomblob(${100 + ((number * 977) % 6000)}));
UPDATE total SET entries = entries + 1; COMMIT;`;
  return `${SETTINGS}PRAGMA wal_autocheckpoint=40;\n${Array.from({ length: count }, (_, i) => one(i)).join("\n")}\n`;
}

/** Kills a writer in the middle of what it does; how far it came does not matter. */
async function killed(folder: string): Promise<void> {
  const child = spawn("sqlite3", [DATABASE], { cwd: folder, stdio: ["pipe", "ignore", "ignore"] });
  const ended = new Promise((done) => child.once("close", done));
  child.on("error", () => {});
  child.stdin.on("error", () => {});
  child.stdin.write(writes(3, 5000));
  await sleep(KILLED_AFTER_MS);
  child.kill("SIGKILL");
  await ended;
}

/** What a statement answers, and a complaint where it is something else. */
function expected(title: string, { code, output }: Result, words: string): readonly string[] {
  const said = output.trim();
  return code === 0 && said === words ? [] : [`${title}: ends with ${code}: ${said.slice(0, 300)}`];
}

async function run({ folder, effort, signal }: Place): Promise<readonly string[]> {
  const where = { cwd: folder, signal };
  const count = TRANSACTIONS[effort];
  const sqlite3 = (text: string): Promise<Result> => command("sqlite3", [DATABASE], where, text);
  const complaints = [...expected("made", await sqlite3(`${SETTINGS}${SCHEMA}`), "wal\n40")];
  const writers = await Promise.all([1, 2].map((writer) => sqlite3(writes(writer, count))));
  for (const writer of writers) complaints.push(...expected("writer", writer, "40"));
  const ask = async (title: string, statement: string, words: string): Promise<void> => {
    complaints.push(...expected(title, await sqlite3(`${SETTINGS}${statement};\n`), words));
  };
  await ask("entries", "SELECT count(*), count(DISTINCT writer) FROM entry", `${2 * count}|2`);
  await ask("total", "SELECT entries FROM total", String(2 * count));
  await killed(folder);
  await ask("after a kill", "PRAGMA integrity_check", "ok");
  await ask("whole transactions", "SELECT entries = (SELECT count(*) FROM entry) FROM total", "1");
  await ask("checkpoint", "PRAGMA wal_checkpoint(TRUNCATE)", "0|0|0");
  await ask("at rest", "PRAGMA integrity_check", "ok");
  // Read once more by a process that has nothing of it, from a copy without the log.
  const copy = join(folder, "copy");
  complaints.push(...expected("copied", await command("cp", [join(folder, DATABASE), copy], where), ""));
  complaints.push(
    ...expected("copy", await command("sqlite3", [copy, "PRAGMA integrity_check"], where), "ok"),
  );
  return complaints;
}

export const sqlite: Suite = {
  name: "sqlite3 with two writers",
  needs: ["sqlite3"],
  isAboutContent: true,
  run,
};
