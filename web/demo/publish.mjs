// Put the new build in the place of the old one, so that nobody is served half a page.

import { existsSync, renameSync, rmSync } from "node:fs";

const [built, place, old] = [".dist-building", "dist", ".dist-old"];
rmSync(old, { recursive: true, force: true });
if (existsSync(place)) renameSync(place, old);
renameSync(built, place);
rmSync(old, { recursive: true, force: true });
