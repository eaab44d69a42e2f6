export interface FoundFile {
  file: File;
  path: string;
}

/** Files that a browser puts into folders and that no study is made of. */
const NO_RECORDS = /(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini|DICOMDIR)$/i;

export function isRecord(path: string): boolean {
  return !NO_RECORDS.test(path);
}

/** All files of what was dropped, those within folders too. */
export async function dropped(transfer: DataTransfer): Promise<FoundFile[]> {
  // Entries are gone once this event has been handled: they are taken out before anything is awaited.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found = await Promise.all(entries.map((entry) => below(entry, '')));
  return found.flat().filter(({ path }) => isRecord(path));
}

async function below(entry: FileSystemEntry, folder: string): Promise<FoundFile[]> {
  const path = folder + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ file, path }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FoundFile[] = [];
  // A reader gives a hundred entries at a time, and none at the end.
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return found;
    for (const one of part) found.push(...(await below(one, `${path}/`)));
  }
}

export function picked(files: FileList): FoundFile[] {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name })).filter(({ path }) => isRecord(path));
}
