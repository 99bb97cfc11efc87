#!/usr/bin/env node
/** The entry of the program: the command line of this process, and its streams. */
import { commandLine, listenToProcess } from "./command-line.ts";

listenToProcess();
await commandLine();
