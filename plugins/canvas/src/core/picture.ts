/** The file of a picture, as a question to a model carries it. */

/** Most bytes that the server takes. */
export const MOST_PICTURE_BYTES = 2_900_000;

export interface Picture {
  name: string;
  /** The file as a data URL: what an `img` shows. */
  url: string;
  /** The same in base64 alone: what the server reads. */
  base64: string;
}

/** Read a file that somebody chose or dropped; null if it is too large. */
export async function readPicture(file: File): Promise<Picture | null> {
  if (file.size > MOST_PICTURE_BYTES) return null;
  const url = await new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => { resolve(reader.result as string); };
    reader.onerror = () => { reject(reader.error ?? new Error(file.name)); };
    reader.readAsDataURL(file);
  });
  return { name: file.name, url, base64: url.slice(url.indexOf(",") + 1) };
}
