/** What a mount that must not be changed refuses, and what it shows all the same. */
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { files } from "../../../../sys/src/index.ts";
import { attribute, mapped, named, setAttribute, tried, withOpen } from "../calls.ts";
import { type Cases, made } from "./case.ts";

/** What the cases find. */
export function prepareReadOnly(folder: string): void {
  made(join(folder, "file"), "content");
  mkdirSync(join(folder, "folder"));
  made(join(folder, "folder/inner"), "inner");
  symlinkSync("file", join(folder, "link"));
  setAttribute(join(folder, "file"), "user.x", Buffer.from("x"));
}

export const readOnly: Cases = {
  "what is there is shown": ({ at }) => [
    readdirSync(at(".")).sort(),
    readFileSync(at("file"), "utf8"),
    readlinkSync(at("link")),
    attribute(at("file"), "user.x"),
  ],
  "names stay": ({ at }) => [
    tried(() => made(at("new"))),
    tried(() => mkdirSync(at("new"))),
    tried(() => symlinkSync("x", at("new"))),
    tried(() => linkSync(at("file"), at("new"))),
    tried(() => renameSync(at("file"), at("new"))),
    tried(() => unlinkSync(at("file"))),
    tried(() => rmdirSync(at("folder"))),
    tried(() => unlinkSync(at("missing"))),
    named(files.mknodat(files.AT_FDCWD, files.pathBytes(at("new")), files.S_IFIFO | 0o600, 0n)),
  ],
  "attributes stay": ({ at }) => [
    tried(() => chmodSync(at("file"), 0o600)),
    tried(() => chownSync(at("file"), 1, 1)),
    tried(() => utimesSync(at("file"), 1, 1)),
    setAttribute(at("file"), "user.y", Buffer.from("y")),
    named(files.removexattr(files.pathBytes(at("file")), files.pathBytes("user.x"))),
  ],
  "content stays": ({ at }) => [
    withOpen(at("file"), files.O_WRONLY, () => 0),
    withOpen(at("file"), files.O_RDWR, () => 0),
    withOpen(at("file"), files.O_RDONLY | files.O_TRUNC, () => 0),
    withOpen(at("file"), files.O_RDONLY | files.O_CREAT, () => 0),
    withOpen(at("."), files.O_TMPFILE | files.O_RDWR, () => 0),
    tried(() => truncateSync(at("file"), 0)),
    withOpen(at("file"), files.O_RDONLY, (fd) => named(files.fallocate(fd, 0, 0n, 10n))),
    withOpen(at("file"), files.O_RDONLY, (fd) => tried(() => mapped(fd, 4096, () => 0))),
  ],
};
