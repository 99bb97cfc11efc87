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
const NOT_ENFORCED = "a defect: ACLs are shown and inherited, not enforced";
const STAYS = "a defect: bits stay that a local file system takes";
const FROZEN = "a defect: the flags of the open decide, not those of the write";
const UNSEEN = "a defect: the kernel's pages are not in the source, which says that there is a hole";

const stays: Readonly<Record<string, string>> = Object.fromEntries(
  [
    "a write takes set-id bits and capabilities",
    "a large write takes them",
    "an appended write takes them",
    "truncate takes them",
    "ftruncate takes them",
    "O_TRUNC takes them",
    "fallocate takes them",
    "a punched hole takes them",
    "copy_file_range takes them",
    "chown by root takes them",
    "an ACL set by an owner outside the group takes set-group-id",
  ].map((title) => [title, STAYS]),
);
const notEnforced: Readonly<Record<string, string>> = {
  "an ACL lets one user in and shows in the group bits": NOT_ENFORCED,
  "a group with --- is kept out": NOT_ENFORCED,
  "a user's entry comes before its groups": NOT_ENFORCED,
};
const frozen: Readonly<Record<string, string>> = {
  "O_APPEND taken away after the open": FROZEN,
  "O_APPEND taken away, large writes": FROZEN,
  "RWF_NOAPPEND writes where it is aimed": FROZEN,
};

export const modes: readonly Mode[] = [
  { title: "default", args: [], differs: { ...stays, ...notEnforced, ...frozen } },
  { title: "--posix-acl", args: ["--posix-acl"], differs: { ...stays, ...frozen } },
  {
    title: "--writeback",
    args: ["--writeback"],
    differs: {
      ...stays,
      ...notEnforced,
      "the host's appended bytes are kept": OWNS_SIZES,
      "the host's large appended bytes are kept": OWNS_SIZES,
      "the host's truncation is seen by the next read": OWNS_SIZES,
      "holes are where they were left": UNSEEN,
      "data that was just written is data": UNSEEN,
      "a sparse copy by data and holes is whole": UNSEEN,
    },
  },
  {
    title: "--passthrough",
    args: ["--passthrough"],
    differs: {
      ...stays,
      ...notEnforced,
      ...frozen,
      "an owner's own write takes them": STAYS,
      "a descriptor that was open before they were set takes them by write": STAYS,
    },
  },
  { title: "libfuse", args: ["--transport", "libfuse"], differs: libfuseDiffers },
];
