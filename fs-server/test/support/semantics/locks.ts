/** Locks of several processes: what `--posix-lock` and `--flock` show as a folder does. */
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN } from "../../../../sys/src/index.ts";
import { eventually, type LockClient, soon } from "../lock-client.ts";
import { made, type Place } from "./case.ts";

export type LockPlace = Place & { readonly one: LockClient; readonly two: LockClient };
export type LockCase = (place: LockPlace) => Promise<unknown>;

/** Pids as whose they are. */
function whose(seen: unknown, { one, two }: LockPlace): unknown {
  if (!Array.isArray(seen)) return seen;
  const pid: unknown = seen.at(-1);
  return [...seen.slice(0, -1), pid === one.pid ? "one" : pid === two.pid ? "two" : pid];
}

export const lockCases: Readonly<Record<string, LockCase>> = {
  "two processes keep each other out of ranges that overlap": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    return [
      await one.does("lock", a, F_WRLCK, 10, 10),
      await two.does("lock", b, F_RDLCK, 19, 1),
      await two.does("lock", b, F_WRLCK, 20, 5),
      await two.does("lock", b, F_WRLCK, 0, 10),
      await one.does("lock", a, F_WRLCK, 5, 1),
      await two.does("lock", b, F_RDLCK, 0, 0),
    ];
  },
  "readers share, and go up and down": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    return [
      await one.does("lock", a, F_RDLCK, 0, 100),
      await two.does("lock", b, F_RDLCK, 0, 100),
      await one.does("lock", a, F_WRLCK, 0, 100),
      await two.does("lock", b, F_UNLCK, 0, 100),
      await one.does("lock", a, F_WRLCK, 0, 100),
      await two.does("lock", b, F_RDLCK, 0, 1),
      await one.does("lock", a, F_RDLCK, 0, 100),
      await two.does("lock", b, F_RDLCK, 0, 1),
    ];
  },
  "unlocking the middle leaves both ends": async (place) => {
    const { at, one, two } = place;
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("lock", a, F_WRLCK, 0, 0);
    await one.does("lock", a, F_UNLCK, 40, 20);
    return [
      whose(await two.does("inTheWay", b, F_RDLCK, 0, 0), place),
      await two.does("lock", b, F_WRLCK, 40, 20),
      await two.does("lock", b, F_WRLCK, 39, 1),
      whose(await two.does("inTheWay", b, F_RDLCK, 60, 5), place),
      await two.does("inTheWay", b, F_WRLCK, 45, 1),
    ];
  },
  "F_GETLK says whose lock it is": async (place) => {
    const { at, one, two } = place;
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("lock", a, F_RDLCK, 0, 10);
    await two.does("lock", b, F_WRLCK, 20, 10);
    return [
      whose(await two.does("inTheWay", b, F_WRLCK, 5, 1), place),
      await two.does("inTheWay", b, F_RDLCK, 5, 1),
      whose(await one.does("inTheWay", a, F_RDLCK, 0, 0), place),
      await one.does("inTheWay", a, F_WRLCK, 0, 10),
    ];
  },
  "closing any descriptor of the file drops the process's locks": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("lock", a, F_WRLCK, 0, 0);
    const before = await two.does("lock", b, F_WRLCK, 0, 1);
    await one.does("close", await one.open(path, "r"));
    return [before, await two.does("lock", b, F_WRLCK, 0, 1)];
  },
  "another process's close drops nothing": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("lock", a, F_WRLCK, 0, 0);
    await two.does("close", await two.open(path));
    return await two.does("lock", b, F_WRLCK, 0, 1);
  },
  "an open file's own lock (F_OFD_SETLK) goes with it alone": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("lockOfDescription", a, F_WRLCK, 0, 10);
    await one.does("close", await one.open(path));
    const after = [
      await two.does("lock", b, F_WRLCK, 0, 1),
      // Of the same process, but another owner.
      await one.does("lock", await one.open(path), F_WRLCK, 0, 1),
    ];
    await one.does("close", a);
    return [...after, await eventually(() => two.does("lock", b, F_WRLCK, 0, 1), 0)];
  },
  "a lock for writing needs a descriptor for writing": async ({ at, one }) => {
    const path = made(at("file"));
    const [r, w] = [await one.open(path, "r"), await one.open(path, "a")];
    return [
      await one.does("lock", r, F_WRLCK, 0, 1),
      await one.does("lock", w, F_RDLCK, 0, 1),
      await one.does("lock", r, F_RDLCK, 0, 1),
      await one.does("lock", w, F_WRLCK, 5, 1),
    ];
  },
  "a reader's locks stay when its process locks for writing": async (place) => {
    const { at, one, two } = place;
    const path = made(at("file"));
    const [r, b] = [await one.open(path, "r"), await two.open(path)];
    await one.does("lock", r, F_RDLCK, 0, 10);
    await one.does("lock", r, F_RDLCK, 20, 10);
    await one.does("lock", await one.open(path), F_WRLCK, 25, 1);
    return [
      whose(await two.does("inTheWay", b, F_WRLCK, 0, 0), place),
      whose(await two.does("inTheWay", b, F_WRLCK, 15, 10), place),
      whose(await two.does("inTheWay", b, F_RDLCK, 0, 0), place),
      await two.does("lock", b, F_RDLCK, 0, 10),
    ];
  },
  "who waits gets the lock when it is given back": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("lock", a, F_WRLCK, 0, 0);
    const waiting = two.does("wait", b, F_WRLCK, 5, 5);
    const before = await soon(waiting);
    await one.does("lock", a, F_UNLCK, 0, 0);
    return [before, await waiting, await one.does("lock", a, F_RDLCK, 5, 1)];
  },
  "who waits gets the lock of a process that is killed": async ({ at, one, two }) => {
    const path = made(at("file"));
    const { LockClient } = await import("../lock-client.ts");
    const third = new LockClient();
    await third.does("lock", await third.open(path), F_WRLCK, 0, 0);
    const waiting = two.does("wait", await two.open(path), F_WRLCK, 0, 1);
    const before = await soon(waiting);
    await third.end();
    return [before, await waiting, await one.does("lock", await one.open(path), F_WRLCK, 0, 1)];
  },
  "a signal ends the wait": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("lock", a, F_WRLCK, 0, 0);
    const waiting = two.does("wait", b, F_WRLCK, 0, 0);
    const before = await soon(waiting);
    two.interrupt();
    const after = await waiting;
    await one.does("lock", a, F_UNLCK, 0, 0);
    // Nothing of the wait is left.
    return [before, after, await one.does("lock", a, F_WRLCK, 0, 0)];
  },
  "a lock set above is seen below": async (place) => {
    const { at, host, one, two } = place;
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(host("file"))];
    await one.does("lock", a, F_WRLCK, 10, 10);
    const [type, start, end] = (await two.does("inTheWay", b, F_RDLCK, 0, 0)) as readonly unknown[];
    return [
      [type, start, end],
      await two.does("lock", b, F_RDLCK, 15, 1),
      await two.does("lock", b, F_RDLCK, 0, 10),
      await one.does("lock", a, F_WRLCK, 0, 10),
    ];
  },
  "a lock set below is seen above, with its pid": async (place) => {
    const { at, host, one, two } = place;
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(host("file"))];
    await two.does("lock", b, F_WRLCK, 10, 10);
    const waiting = one.does("wait", a, F_RDLCK, 0, 0);
    const seen = [whose(await two.does("inTheWay", b, F_WRLCK, 0, 0), place), await soon(waiting)];
    await two.does("lock", b, F_UNLCK, 0, 0);
    seen.push(await waiting, await two.does("lock", b, F_WRLCK, 10, 10));
    await one.does("closeAll");
    await two.does("lock", b, F_WRLCK, 10, 10);
    return [...seen, whose(await one.does("inTheWay", await one.open(path), F_RDLCK, 0, 0), place)];
  },
  "flock of two open files, up and down": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path, "r")];
    return [
      await one.does("flock", a, LOCK_SH | LOCK_NB),
      await two.does("flock", b, LOCK_SH | LOCK_NB),
      await two.does("flock", b, LOCK_EX | LOCK_NB),
      await one.does("flock", a, LOCK_EX | LOCK_NB),
      await two.does("flock", b, LOCK_SH | LOCK_NB),
      await one.does("flock", a, LOCK_UN),
      await two.does("flock", b, LOCK_EX | LOCK_NB),
    ];
  },
  "flock goes with the last descriptor, a child's too": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("flock", a, LOCK_EX);
    const child = Number(await one.does("inherit", a));
    await one.does("close", a);
    const held = await two.does("flock", b, LOCK_SH | LOCK_NB);
    process.kill(child, "SIGKILL");
    return [held, await eventually(() => two.does("flock", b, LOCK_SH | LOCK_NB), 0)];
  },
  "flock is waited for, until a signal": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    await one.does("flock", a, LOCK_EX);
    const first = two.does("flock", b, LOCK_SH);
    const before = await soon(first);
    two.interrupt();
    const interrupted = await first;
    const second = two.does("flock", b, LOCK_SH);
    await soon(second);
    await one.does("flock", a, LOCK_SH);
    return [before, interrupted, await second];
  },
  "flock set above and below": async ({ at, host, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(host("file"))];
    const seen = [
      await one.does("flock", a, LOCK_EX | LOCK_NB),
      await two.does("flock", b, LOCK_SH | LOCK_NB),
      await one.does("flock", a, LOCK_UN),
      await two.does("flock", b, LOCK_EX | LOCK_NB),
      await one.does("flock", a, LOCK_SH | LOCK_NB),
    ];
    const waiting = one.does("flock", a, LOCK_SH);
    seen.push(await soon(waiting));
    await two.does("close", b);
    return [...seen, await waiting];
  },
  "flock and locks of ranges do not know of each other": async ({ at, one, two }) => {
    const path = made(at("file"));
    const [a, b] = [await one.open(path), await two.open(path)];
    return [await one.does("flock", a, LOCK_EX | LOCK_NB), await two.does("lock", b, F_WRLCK, 0, 0)];
  },
};
