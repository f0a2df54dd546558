"""Languages of documents: the two of `words`, and more alphabets in two directions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from data_engine.words import CHINESE, ENGLISH, Language


@dataclass(frozen=True)
class Script:
    """How the documents of one language are set."""

    language: Language
    families: tuple[str, ...]
    """Fonts that can write it."""
    figure: str
    """What a caption of a figure opens with."""
    table: str
    right_to_left: bool = False

    def letters(self) -> str:
        """All that a font must have to write the language; digits and common marks aside."""
        return self.all_forms([*self.language.words, self.figure, self.table])

    @staticmethod
    def all_forms(words: Iterable[str]) -> str:
        """Words in every spelling that headings and signs give them."""
        return " ".join(f"{word} {word.upper()} {word.lower()} {word.capitalize()}" for word in words)


_ALL = ("sans", "serif", "mono", "stix")


def _language(code: str, words: str, comma: str = ",") -> Language:
    return Language(
        code=code,
        words=tuple(words.split()),
        measures=(),
        categories=(),
        separator=" ",
        comma=comma,
        stop=".",
    )


GERMAN = _language(
    "de",
    """
    der die das und ist nicht ein eine mit auf für von über unter zwischen während Straße Häuser Brücke Fluss
    Wälder Gärten König Bücher Schüler Lehrer Zeitung Größe Wärme Messung Ergebnis Tabelle Abbildung Maß
    schön groß klein früh spät süß grün weiß dürfen können müssen möchte lesen schreiben rechnen zählen öffnen
    schließen gehört geführt erklärt außerdem schließlich jährlich natürlich möglich nördlich südlich
    """,
)
FRENCH = _language(
    "fr",
    """
    le la les un une et est pas avec sur pour dans entre pendant après été hiver forêt rivière château élève
    école maître journée année lumière énergie théorie méthode résultat tableau modèle mesure façon garçon
    français où déjà très près première dernière août Noël cœur sœur œuvre être avoir faire écrire lire
    compter répéter prévoir créer étudier naïf aiguë général nécessaire différent élevé
    """,
)
SPANISH = _language(
    "es",
    """
    el la los las un una y es no con sobre para en entre durante después año mañana niño señal español montaña
    pequeño compañía médico música física química página árbol río jardín canción corazón razón lección
    número método análisis energía también según además así está será podría leer escribir contar medir
    pingüino averigüe rápido fácil difícil último próximo único público
    """,
)
RUSSIAN = _language(
    "ru",
    """
    и в не на что он как это по но из у за от так для до или уже если время человек дело жизнь день рука работа
    слово место вопрос город страна вода земля книга письмо школа учитель объём съезд ёлка щука эхо юг яблоко
    большой новый старый хороший первый последний северный южный читать писать считать измерять показать
    таблица рисунок метод результат модель движение энергия поверхность
    """,
)
GREEK = _language(
    "el",
    """
    και το να του η της με που την από για είναι στο θα δεν σε τα οι ένα αυτό πολύ όταν κάθε χρόνος άνθρωπος
    ημέρα νερό γη βιβλίο σχολείο δάσκαλος μαθητής πόλη χώρα θάλασσα βουνό ποτάμι κήπος γράμμα λέξη αριθμός
    μέθοδος πίνακας εικόνα μέτρηση αποτέλεσμα ενέργεια κίνηση μεγάλος μικρός νέος παλιός πρώτος τελευταίος
    διαβάζω γράφω μετρώ δείχνω ζωή φως ψωμί
    """,
)
HEBREW = _language(
    "he",
    """
    של את על לא הוא היא זה עם כל גם או אם כי יש אין היום מחר אתמול שלום עולם ספר מילה מכתב בית עיר ארץ ים הר
    נהר גן ילד ילדה מורה תלמיד שיר אור חיים זמן מספר שיטה טבלה תמונה מדידה תוצאה אנרגיה תנועה גדול קטן חדש
    ישן ראשון אחרון צפון דרום מזרח מערב לקרוא לכתוב לספור למדוד להראות לחם מים שמש ירח עץ פרח
    """,
)
ARABIC = _language(
    "ar",
    """
    في من على إلى عن مع هذا هذه كان كل بعد قبل بين أو لا ما يوم سنة وقت مدينة بلد أرض بحر جبل نهر حديقة كتاب
    كلمة رسالة بيت باب مدرسة معلم طالب ولد بنت شمس قمر شجرة زهرة ماء خبز حياة نور رقم طريقة جدول صورة قياس
    نتيجة طاقة حركة سطح كبير صغير جديد قديم أول آخر شمال جنوب شرق غرب يقرأ يكتب يحسب يقيس يظهر سؤال جواب
    """,
    "،",
)

SCRIPTS = {
    script.language.code: script
    for script in (
        Script(ENGLISH, _ALL, "Figure", "Table"),
        Script(CHINESE, ("chinese",), "图", "表"),
        Script(GERMAN, _ALL, "Abbildung", "Tabelle"),
        Script(FRENCH, _ALL, "Figure", "Tableau"),
        Script(SPANISH, _ALL, "Figura", "Tabla"),
        Script(RUSSIAN, _ALL, "Рисунок", "Таблица"),
        Script(GREEK, _ALL, "Εικόνα", "Πίνακας"),
        Script(HEBREW, ("sans",), "איור", "טבלה", right_to_left=True),
        Script(ARABIC, ("sans",), "شكل", "جدول", right_to_left=True),
    )
}
"""By language code."""

WORDS = "words"
"""What the language of words that the user gives is called."""
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_WITHOUT_BLANKS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters."""


def given_script(words: tuple[str, ...]) -> Script:
    """The script of words of the user: blanks between them, and their direction, follow the letters of most."""
    half = len(words) / 2
    joined = sum(_WITHOUT_BLANKS.search(word) is not None for word in words) > half
    backwards = sum(RIGHT_TO_LEFT.search(word) is not None for word in words) > half
    language = Language(WORDS, words, (), (), "" if joined else " ", ",", ".")
    return Script(language, _ALL, "Figure", "Table", right_to_left=backwards)
