/**
 * The modes of `serve` in which every case runs, and what differs from a folder there for a reason. A difference that is
 * no longer seen fails, so that its line goes.
 */
import { attributes, lists } from "./attributes.ts";
import type { Cases } from "./case.ts";
import { appending, content } from "./content.ts";
import { libfuseDiffers } from "./libfuse.ts";
import { names } from "./names.ts";
import { owners } from "./owners.ts";
import { privileges } from "./privileges.ts";
import { directories, processes } from "./processes.ts";

export const cases: Cases = {
  ...names,
  ...owners,
  ...privileges,
  ...appending,
  ...content,
  ...attributes,
  ...lists,
  ...directories,
  ...processes,
};

export type Mode = {
  readonly title: string;
  readonly args: readonly string[];
  /** By case: why it differs. */
  readonly differs: Readonly<Record<string, string>>;
};

const OWNS_SIZES =
  "with a writeback cache the client's kernel owns the sizes: what the host does to them it does not ask for";
const NOT_ENFORCED = "ACLs are shown and inherited, not enforced";

export const modes: readonly Mode[] = [
  { title: "default", args: [], differs: {} },
  { title: "--posix-acl", args: ["--posix-acl"], differs: {} },
  {
    title: "--no-posix-acl",
    args: ["--no-posix-acl"],
    differs: {
      "an ACL lets one user in and shows in the group bits": NOT_ENFORCED,
      "a group with --- is kept out": NOT_ENFORCED,
      "a user's entry comes before its groups": NOT_ENFORCED,
      "an ACL set by an owner outside the group takes set-group-id":
        "the caller's supplementary groups are not known: the bit goes for their members, too",
    },
  },
  {
    title: "--writeback",
    args: ["--writeback"],
    differs: {
      "the host's appended bytes are kept": OWNS_SIZES,
      "the host's large appended bytes are kept": OWNS_SIZES,
      "the host's truncation is seen by the next read": OWNS_SIZES,
      "holes are where they were left":
        "the kernel's pages are not in the source: the whole file counts as data",
    },
  },
  {
    title: "--passthrough",
    args: ["--passthrough"],
    differs: {
      "RWF_NOAPPEND writes where it is aimed":
        "what the kernel writes itself the server does not count: it cannot tell such an offset from the end",
      "a descriptor that was open before they were set takes them by write":
        "the kernel writes with the server's privileges to what was open before",
    },
  },
  { title: "--cache never", args: ["--cache", "never"], differs: {} },
  { title: "--posix-lock --flock", args: ["--posix-lock", "--flock"], differs: {} },
  { title: "--allow-direct-io", args: ["--allow-direct-io"], differs: {} },
  { title: "libfuse", args: ["--transport", "libfuse"], differs: libfuseDiffers },
];
