/** A box to type a text into or drop a picture on, and what one version of a model answers, or two side by side. */

import { Button, HStack, NativeSelect, Text, Textarea } from "@chakra-ui/react";
import { type DragEvent, useState } from "react";

import { ApiError, type VersionAnswer, api } from "../api/client";
import { MOST_PICTURE_BYTES, type Picture, readPicture } from "../core/picture";
import { shareText } from "../core/results";
import { Complaint } from "../parts/page";
import { t } from "../i18n/t";

interface Props {
  name: string;
  /** The version that is asked first. */
  first: number;
  versions: readonly number[];
}

export function AnswerBox({ name, first, versions }: Props) {
  const [text, setText] = useState("");
  const [picture, setPicture] = useState<Picture | null>(null);
  const [second, setSecond] = useState("");
  const [answers, setAnswers] = useState<readonly VersionAnswer[]>([]);
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const ask = async (): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      const asked = picture === null ? { text } : { image: picture.base64 };
      setAnswers(await api.answers(name, { ...asked, versions: second === "" ? [first] : [first, Number(second)] }));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
    } finally {
      setBusy(false);
    }
  };
  const take = async (files: FileList | null): Promise<void> => {
    const file = files?.[0];
    if (file === undefined) return;
    setAnswers([]);
    const found = await readPicture(file);
    setPicture(found);
    const megabytes = MOST_PICTURE_BYTES / 1e6;
    setError(found === null ? t("A picture is a file of at most {megabytes} MB: choose a smaller one.", { megabytes }) : "");
  };
  const drop = (event: DragEvent): void => {
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    void take(event.dataTransfer.files);
  };
  return (
    <section className="mm-card" aria-label={t("Ask it")} onDrop={drop} onDragOver={(event) => { event.preventDefault(); }}>
      <h2 className="mm-section-title">{t("Ask version {first}", { first })}</h2>
      {picture === null ? (
        <>
          <Textarea aria-label={t("Text to ask about")} placeholder={t("Type or paste a text")} size="sm" rows={3} maxLength={20000} value={text} onChange={(event) => { setText(event.target.value); }} />
          <label className="mm-file">
            {t("or drop a picture here, or choose one:")}
            <input type="file" accept="image/png,image/jpeg,image/webp,image/bmp,image/gif,image/tiff" onChange={(event) => void take(event.target.files)} />
          </label>
        </>
      ) : (
        <HStack>
          <img className="mm-picture" src={picture.url} alt={t("The picture to ask about")} />
          <Text className="mm-cell" title={picture.name}>{picture.name}</Text>
          <Button size="xs" variant="outline" onClick={() => { setPicture(null); setAnswers([]); }}>
            {t("Remove the picture")}
          </Button>
        </HStack>
      )}
      <HStack mt={2} mb={2}>
        <NativeSelect.Root size="xs" width="200px">
          <NativeSelect.Field aria-label={t("Beside it")} value={second} onChange={(event) => { setSecond(event.target.value); }}>
            <option value="">{t("no other version")}</option>
            {versions
              .filter((version) => version !== first)
              .map((version) => (
                <option key={version} value={version}>
                  {t("beside version {version}", { version })}
                </option>
              ))}
          </NativeSelect.Field>
          <NativeSelect.Indicator />
        </NativeSelect.Root>
        <Button size="xs" colorPalette="brand" disabled={picture === null && text.trim() === ""} loading={isBusy} loadingText={t("Loading the model")} onClick={() => void ask()}>
          {t("Ask")}
        </Button>
        <Text className="mm-help">{t("The model is loaded for this question: it takes some seconds.")}</Text>
      </HStack>
      {error === "" ? null : <Complaint text={error} />}
      <div className="mm-two" role="status">
        {answers.map((answer) => (
          <Answer key={answer.version} answer={answer} />
        ))}
      </div>
    </section>
  );
}

function Answer({ answer }: { answer: VersionAnswer }) {
  if (answer.error !== "") return <Complaint text={answer.error} />;
  const said = Array.isArray(answer.answer) ? answer.answer.join(", ") || t("none of the classes") : answer.answer;
  return (
    <div>
      <Text>
        {t("Version {version}:", { version: answer.version })}{" "}<strong>{said ?? t("no answer, for there is nothing in it to read")}</strong>
      </Text>
      {answer.classes.map(({ name, probability }) => (
        <div key={name} className="mm-bar">
          <span title={name}>{name}</span>
          <span className="mm-bar-track">
            <span style={{ width: `${100 * probability}%` }} />
          </span>
          <span>{shareText(probability)}</span>
        </div>
      ))}
    </div>
  );
}
