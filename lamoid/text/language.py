"""Which language a text is in, by its script and its commonest function words; small, and sure of little it says.

Told apart are the languages of the tables below. Of short texts (fewer than about 20 words), lists of names and
languages that are not in the tables the answer is often ``und`` (undetermined), or a near relative.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache

from lamoid.text.clean_words import words_of

UNKNOWN = "und"
_READ = 20_000  # characters looked at
_ENOUGH = 0.08  # share of words that must be function words of a language


def detect_language(text: str) -> tuple[str, float]:
    """Give the language (ISO 639-1, ``und`` where unknown) and a certainty from 0 to 1.

    The script of most letters decides first; among the languages that share it, the one most of whose function words
    the text has, where a word of several languages counts a part for each.
    """
    text = unicodedata.normalize("NFC", text[:_READ])
    script, share = _script(text)
    if script in _ONE_LANGUAGE:
        return _ONE_LANGUAGE[script], share
    if script == "Han":
        return ("ja", share) if _KANA.search(text) and _kana_share(text) > 0.05 else ("zh", share)
    if script not in FUNCTION_WORDS:
        return UNKNOWN, 0.0
    words = [word.lower().replace("’", "'") for word in words_of(text)]
    scores = _scores(words, script)
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    (best, score), (_, second), *_ = [*ranked, ("", 0.0), ("", 0.0)]
    if not words or score < _ENOUGH * len(words):
        return UNKNOWN, 0.0
    return best, share * (score - second) / score


def function_words(language: str) -> frozenset[str]:
    """Give the function words of a language, in small letters; none where there is no table for it."""
    return frozenset(word for languages in FUNCTION_WORDS.values() for word in languages.get(language, "").split())


def known_languages() -> tuple[str, ...]:
    """Give every language that can be told."""
    spelled = [language for languages in FUNCTION_WORDS.values() for language in languages]
    return tuple(sorted({"zh", "ja", *_ONE_LANGUAGE.values(), *spelled}))


def _script(text: str) -> tuple[str, float]:
    counts = {name: len(pattern.findall(text)) for name, pattern in _patterns().items()}
    kana = counts.pop("Kana")
    counts["Han"] += kana
    best = max(counts, key=lambda name: counts[name])
    letters = sum(map(str.isalpha, text))
    return (best, min(1.0, counts[best] / letters)) if letters and counts[best] else ("", 0.0)


def _kana_share(text: str) -> float:
    return len(_KANA.findall(text)) / max(1, sum(map(str.isalpha, text)))


def _scores(words: list[str], script: str) -> dict[str, float]:
    owners, scores = _owners(script), defaultdict[str, float](float)
    for word, count in Counter(words).items():
        for language in owners.get(word, ()):
            scores[language] += count / len(owners[word])
    return scores


@cache
def _owners(script: str) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for language, words in FUNCTION_WORDS[script].items():
        for word in words.split():
            owners.setdefault(word, []).append(language)
    return owners


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}


_SCRIPTS = {
    "Latin": "A-Za-z\\u00c0-\\u024f\\u1e00-\\u1eff",
    "Cyrillic": "\\u0400-\\u052f",
    "Han": "\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\U00020000-\\U000323af",
    "Kana": "\\u3040-\\u30ff\\uff66-\\uff9f",
    "Hangul": "\\u1100-\\u11ff\\u3130-\\u318f\\uac00-\\ud7af",
    "Arabic": "\\u0600-\\u06ff\\u0750-\\u077f",
    "Devanagari": "\\u0900-\\u097f",
    "Greek": "\\u0370-\\u03ff\\u1f00-\\u1fff",
    "Hebrew": "\\u0590-\\u05ff",
    "Thai": "\\u0e00-\\u0e7f",
    "Georgian": "\\u10a0-\\u10ff",
    "Armenian": "\\u0530-\\u058f",
    "Bengali": "\\u0980-\\u09ff",
    "Gurmukhi": "\\u0a00-\\u0a7f",
    "Gujarati": "\\u0a80-\\u0aff",
    "Tamil": "\\u0b80-\\u0bff",
    "Telugu": "\\u0c00-\\u0c7f",
    "Kannada": "\\u0c80-\\u0cff",
    "Malayalam": "\\u0d00-\\u0d7f",
    "Sinhala": "\\u0d80-\\u0dff",
    "Lao": "\\u0e80-\\u0eff",
    "Tibetan": "\\u0f00-\\u0fff",
    "Myanmar": "\\u1000-\\u109f",
    "Khmer": "\\u1780-\\u17ff",
    "Ethiopic": "\\u1200-\\u137f",
}
_KANA = re.compile(f"[{_SCRIPTS['Kana']}]")

_ONE_LANGUAGE = {
    "Hangul": "ko",
    "Greek": "el",
    "Hebrew": "he",
    "Thai": "th",
    "Georgian": "ka",
    "Armenian": "hy",
    "Bengali": "bn",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Lao": "lo",
    "Tibetan": "bo",
    "Myanmar": "my",
    "Khmer": "km",
    "Ethiopic": "am",
}

FUNCTION_WORDS = {
    "Han": {
        "zh": "的 了 是 在 和 也 就 都 而 及 与 與 着 著 或 一个 一個 没有 沒有 我们 我們 你们 你們 他们 他們 她们 "
        "她們 它们 它們 这 這 那 这个 這個 那个 那個 这些 這些 那些 我 你 您 他 她 它 不 有 人 到 说 說 要 会 "
        "會 好 自己 之 其 于 於 以 为 為 从 從 对 對 把 被 让 讓 给 給 向 等 但 但是 因为 因為 所以 如果 虽然 "
        "雖然 并 並 并且 並且 还 還 又 很 更 最 吗 嗎 呢 吧 啊 什么 什麼 怎么 怎麼 哪 谁 誰 可以 能 将 將 则 "
        "則 即 只 由 此 该 該 各 每 某",
    },
    "Latin": {
        "en": "the of and to in a is that for it as with was on be by are this or from at which an have not but "
        "they his her has their its were been he she we you i my your our if will would there what when who "
        "shall can no all any so than then them these those do did does had him into more most out up about "
        "other some such only",
        "de": "der die das und in zu den von mit ist des im für auf nicht ein eine dem sich auch als an es werden "
        "aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur "
        "oder aber vor zur bis mehr durch man sein wurde ich wir ihr jeder kein keine diese dieser ihre seine",
        "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec "
        "ou son aux elle ont être cette mais nous vous je leur ses été fait comme tout toute droit si même "
        "ces d'une qu'il d'un sa deux ils y lui on entre sans",
        "es": "de la que el en y a los del se las por un para con no una su al es lo como más o pero sus le ha me "
        "si sin sobre este ya entre cuando todo esta ser son dos también fue había era muy años hasta desde "
        "está mi porque toda persona derecho tiene nos ni contra ese eso",
        "it": "di e il la che in a per è un del non si una con della le i da sono al come dei più nel lo alla gli "
        "ha delle su anche o ad ed ma se degli questo dal ogni suo sua loro essere nella dalla ai stato tra "
        "fra quando individuo diritto cui era ho mi ci chi all nell dell",
        "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem "
        "à seu sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois "
        "sem mesmo aos ter seus quem nas me toda pessoa direito todos são",
        "nl": "de van het een en in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit door "
        "naar heeft hij ze wordt of deze dit ik je was over worden tot had heb hebben wij zij hun haar zijne "
        "ieder recht geen onder zal kan al meer wat",
        "sv": "och i att det som en på är av för med den till inte har om ett han de var jag men sig från vi så kan "
        "när man under också efter eller nu sin där vid mot ska skulle hade blir utan vara alla annan varje "
        "rätt envar skall hans hennes dess dessa hon",
        "da": "og i at det er en til af på for med som den der ikke de har et om han var men sig fra jeg kan vi så "
        "også efter eller over blev hvor ved skal når være have mod sin enhver ret ingen hans hendes dette "
        "disse man denne havde nogen hvis",
        "no": "og i det er en på som til av for at med de har ikke den om et han var men seg fra jeg vi så kan også "
        "etter eller over ble hvor ved skal når være ha mot sin enhver rett ingen hans hennes dette disse man "
        "noe sitt sine hver blir bli hadde",
        "fi": "ja on ei että se oli hän mutta ovat joka kuin myös tai sen jos niin kun hänen vain ole olla ne "
        "mukaan ollut tämä jotka jokaisella oikeus sekä kanssa minä mitä ettei sitä tämän siitä voi kaikki "
        "vielä jo joita hänet jonka kuitenkin sillä oikeutta tulee",
        "pl": "w i na się z do nie że jest o to od za po jak przez dla a oraz ale co tym być jego tak już są lub ma "
        "może który które która czy przy pod jej ich był tego ze każdy człowiek prawo go jako jednak ta była "
        "było tylko bez",
        "cs": "a v se na je že s z o do to i k ve pro za by ale si po jako od který jeho tak jsou jen nebo jsem "
        "které než až při byl být která podle také či každý právo má svou své svého její bylo byla kdo však "
        "ani co jak není",
        "ro": "de și în a la cu din pe că care o este nu un pentru să al mai ca au fi sau fost ce prin dar se după "
        "lui sunt are între către fără ale cel orice dreptul oricare persoană ei lor acest această sale său "
        "unei unui ar va cum",
        "hu": "a az és hogy nem is egy van meg ez csak de ha már mint el még ki volt azt vagy sem be kell minden "
        "amely után ezt aki majd lesz joga személynek szerint nélkül által saját mert között fel olyan lehet "
        "nincs ő így most",
        "tr": "ve bir bu için da de ile olarak çok daha olan gibi ne en kadar var sonra her o ya olduğu ki değil "
        "veya hakkı şahsın hak ancak göre kendi mi hiç hiçbir tarafından iken üzere bütün içinde diye ben sen "
        "biz onun şey edilmesi",
        "id": "yang dan di untuk dengan dari dalam ini itu pada tidak adalah oleh akan sebagai ke atau juga dapat "
        "telah orang ada bahwa mereka hak setiap berhak secara karena lebih saya kami kita ia harus bagi "
        "tersebut seperti tanpa sama semua seseorang",
        "vi": "và của là các có được trong cho người một không với những này đã quyền để khi về mọi hay hoặc đến "
        "phải từ như ra do theo cũng bị tại trên vào thì mà sự đều ai nào điều nước họ ông tôi ở",
        "ca": "de la i que el en a les els del un per amb una no és al es o com més ha seva seu dels persona dret "
        "tota té pel ser són aquesta aquest sense sobre però també llur ni han hi ho seus seves lo tot",
        "hr": "i u je se na da za su od s o a kao koji iz ne ili te što bi to po će ima svatko pravo njegov koje "
        "nije kako samo biti bez pri prema svoje sve koja ali još bio bila sam smo ako nitko",
        "sk": "a v sa na je že s z o do to i k vo pre za by ale si po ako od ktorý jeho tak sú len alebo ktoré než "
        "až pri bol byť ktorá podľa tiež či každý právo má svoje svojej jej nie kto však ani čo",
        "la": "et in est non ad ut cum quod qui ex sed ab si nec quae esse aut per sunt de hoc enim a quam eius "
        "atque etiam autem se quo te me id ac ne iam omnes omnis ius habet sui",
    },
    "Cyrillic": {
        "ru": "и в не на что с по как это он из к а за у от о но для же так или то все мы я они был его ее их при "
        "только человек каждый право имеет быть было была если до бы со вы ты который которые этот свои своей "
        "также может без она нет",
        "uk": "і в не на що з та до як це він за у від але для же так або то всі ми я вони був його її їх при "
        "людина кожна право має бути було була якщо зі ви ти який які цей свої своєї також може без вона й є "
        "про чи повинна",
        "be": "і ў не на што з да як гэта ён за у ад але для жа так або то ўсе мы я яны быў яго яе іх пры чалавек "
        "кожны права мае быць было была калі вы ты які якія гэты сваё сваёй таксама можа без яна ці павінен",
        "bg": "и в на да не се за от с е по че са си като или при до той това всеки право има неговата който които "
        "тя те ще беше бъде свои своите без върху също може но ако между какво го му им тези тази",
        "sr": "и у је се на да за су од с о а као који из не или те што би то по ће има свако право његов које није "
        "како само бити без при према своје све која али још био била сам смо ако нико",
    },
    "Arabic": {
        "ar": "في من على أن إلى و لا ما هو أو هذا كل عن التي الذي مع هذه كان ذلك لكل شخص الحق حق بين له لم كما أي "
        "قد ولا فيها فيه غير بعد قبل حتى إذا عند هي وفي ومن هم لها",
        "fa": "و در به از که این را با است برای آن یک خود تا هر حق دارد بر شود یا هم کس نیز او باید می های شده شد "
        "بود کند بین ما آنها هیچ دیگر باشد اگر پس نمی",
        "ur": "کے اور کی کا میں ہے کو سے کہ ہیں اس یا پر نہیں ہر حق شخص بھی نے ایک جو تو ہو کر وہ یہ گا ان اپنے لئے "
        "لیے اپنی کیا جائے کسی ہوں تھا تک",
    },
    "Devanagari": {
        "hi": "के है और की में का को से हैं यह पर कि एक भी नहीं या ने किसी व्यक्ति अधिकार प्रत्येक इस जो तो हो कर "
        "अपने लिए था वह उस ही जाएगा साथ अपनी सकता किया द्वारा",
        "mr": "आणि आहे या व च्या ते ही हा की असे मध्ये त्या कोणत्याही प्रत्येक अधिकार नाही किंवा एक त्याच्या "
        "करण्याचा असेल ला व्यक्तीस हक्क आपल्या होते आहेत तो ती केला",
        "ne": "र को मा छ का ले हरेक अधिकार लाई व्यक्तिलाई वा हो पनि यो गर्ने छैन प्रत्येक तथा हुनेछ आफ्नो त्यो एक "
        "गरेको भएको गर्न कुनै हुन्छ यस भने",
    },
}
