"""The words that are around what is meant, in the larger languages; regular expressions, matched without case."""

# ruff: noqa: RUF001, SIM905 - letters of other scripts; lists of words are read as prose is

from __future__ import annotations

from typing import Final

TITLE_NOUNS: Final = (
    r"titles?|names?|titled|titel|namen?|bezeichnung|titres?|nom|t[ií]tulos?|nombre|nome|titolo|tytuł|nazwa|название"
    r"|заголовок|назва|标题|標題|名称|名稱|题目|タイトル|題名|제목|عنوان|العنوان|כותרת|शीर्षक|başlık"
)

LABELS: Final = (
    r"(?:(?:the|a|my|session|conversation|chat|thread|suggested|proposed|possible|short|new|final|concise|best"
    r"|generated)\s+){0,4}"
    r"(?:title|name|subject|topic|heading|headline)"
    r"|(?:sitzungs|gesprächs|chat|unterhaltungs)?(?:titel|name)|betreff|thema"
    r"|(?:titre|nom|sujet|objet)(?: de la (?:conversation|session))?"
    r"|(?:título|titulo|nombre|nome|asunto|assunto|tema)(?: d[ea] (?:la )?(?:conversación|sesión|conversa|sessão))?"
    r"|titolo|oggetto|onderwerp|naam|tytuł|nazwa|temat|rubrik|otsikko|başlık|konu|название|заголовок|тема|назва"
    r"|(?:会话|對話|对话|建议|建議|聊天)?(?:的)?(?:标题|標題|题目|題目|名称|名稱|主题|主題)|(?:会話の?)?(?:タイトル|題名|件名)"
    r"|(?:대화 ?)?(?:제목|이름)|(?:ال)?عنوان|כותרת|शीर्षक|tiêu đề|judul|หัวข้อ|ชื่อเรื่อง"
)

COURTESIES: Final = (
    r"(?:sure thing|sure|certainly|of course|absolutely|okay|ok|great|got it|no problem|gladly|happy to help"
    r"|understood|alright"
    r"|natürlich|klar|gerne?|selbstverständlich|bien sûr|d'accord|d’accord|avec plaisir|voici|claro(?: que sí)?"
    r"|por supuesto"
    r"|com certeza|certo|certamente|ecco|natuurlijk|zeker|oczywiście|jasne|конечно|хорошо|tabii(?: ki)?|elbette)"
    r"(?=\s*[!.,:;–—\n]|\s*$)"
    r"|(?:当然可以|当然|好的|没问题|可以|當然|沒問題|はい|もちろん(?:です)?|かしこまりました|承知しました|네|물론(?:이죠|입니다)?|알겠습니다"
    r"|بالتأكيد|بالطبع|נו|בטח|כמובן|ज़रूर|बिल्कुल)(?=\s*[!.,:;–—！。，、：\n]|\s*$)"
)

PREAMBLES: Final = (
    r"here(?:'s|’s| is| are| you go)|this (?:is|could|would|can|chat|conversation|session)|these (?:are|could)"
    r"|based on"
    r"|(?:i|you|we|one)(?:'d|’d|'ll|’ll| would| will| could| can| might| may| suggest| propose| recommend)"
    r"|(?:the|a|an|my|one) (?:\w+ ){0,3}?(?:title|name)(?= (?:for|of) (?:this|the|your"
    r"|our) (?:\w+ )?(?:conversation|chat|session|thread"
    r"|discussion)|(?: \w+)? (?:is|could be|would be|should be|might be)\b)"
    r"|hier (?:ist|sind)|(?:der|ein|mein) (?:\w+ ){0,2}?titel|voici|(?:le|un) (?:\w+ ){0,2}?titre|je (?:propose"
    r"|suggère)|aquí (?:está|tienes|va)"
    r"|aqui está|(?:el|un|o|um) (?:\w+ ){0,2}?título|ecco|il titolo|oto"
    r"|вот|以下|这是|這是|根据|こちら|다음은|여기|إليك|הנה|यहाँ|işte"
)

REFUSALS: Final = (
    r"(?:i'?m |i am |we are |we're )?(?:so |very |really |truly )?sorry\b[^\n.]{0,40}?\b(?:can'?t|cannot|can not"
    r"|unable|not able|won'?t"
    r"|couldn'?t|don'?t|do not)\b"
    r"|(?:unfortunately|i apologi[sz]e)\b[^\n.]{0,30}?\bi(?:'m| am)? (?:can'?t|cannot|can not|unable|not able"
    r"|won'?t|do not|don'?t)\b"
    r"|i (?:can'?t|cannot|can not|could not|couldn'?t|won'?t|will not) (?:help|assist|provide|generate|create"
    r"|comply|fulfil|do that|name"
    r"|title|give|suggest|engage|discuss|process|produce|continue|support)"
    r"|(?:i'm|i am) (?:unable|not able|not allowed|not permitted) to\b"
    r"|(?:i'?m )?as an? (?:ai|artificial intelligence|large language model|language model)(?: language)?(?: model"
    r"| assistant)?,? i\b"
    r"|as an? (?:ai (?:language model|model|assistant)|(?:large )?language model)\b"
    r"|i do(?:n'?t| not) (?:have|see) (?:enough|sufficient|any) (?:information|context|conversation|content)"
    r"|there (?:is|was) (?:no|not enough|nothing) (?:conversation|content|information|context|to name)"
    r"|(?:es )?tut mir (?:sehr )?leid,? (?:aber )?(?:ich|das|dabei|da|leider)|entschuldigung,? (?:aber )?(?:ich"
    r"|das|dabei)"
    r"|ich kann (?:ihnen |dir |euch )?(?:dabei|damit|hierbei|das|diese[rsnm]?|leider|hier)\b[^\n]{0,60}?\bnicht\b"
    r"|leider kann ich"
    r"|als ki(?:-| )|als künstliche intelligenz"
    r"|(?:je suis |je suis vraiment )?désolée?,? (?:mais )?je\b|je ne (?:peux|suis) pas|je suis dans l'impossibilité"
    r"|en tant qu(?:e modèle|'ia\b|'intelligence artificielle|'assistant)"
    r"|lo siento,? (?:pero )?(?:no|como)\b|no puedo (?:ayudar|asistir|proporcionar|generar|hacer|cumplir|crear)"
    r"|como (?:modelo de lenguaje|modelo de linguagem|una? ia\b|una? inteligencia artificial"
    r"|uma inteligência artificial)"
    r"|mi dispiace,? (?:ma )?(?:non|io)|non posso (?:aiutar|fornir|assister|crear|generar)"
    r"|(?:desculpe|sinto muito|lamento),? (?:mas )?(?:eu )?(?:não|nao)|(?:eu )?não posso (?:ajudar|fornecer|gerar"
    r"|criar)"
    r"|het spijt me,? (?:maar )?(?:ik|dat)|przepraszam,? (?:ale )?nie|üzgünüm,? (?:ama |ancak )?"
    r"|(?:извините|простите|к сожалению|мне (?:очень )?жаль),? (?:но )?я (?:не|как)|я не могу (?:помочь"
    r"|предоставить|выполнить)"
    r"|(?:很|非常|真的?)?(?:抱歉|对不起|對不起|遗憾)[，,。！ ]*(?:但是?)?(?:我|无法|無法|不能|作为|作為)"
    r"|我(?:无法|無法|不能|没办法|沒辦法)(?:帮|幫|提供|协助|協助|生成|为|為|满足|滿足|完成|回答|处理|處理|给出)"
    r"|作[为為](?:一[个個名])?(?:ai|人工智[能慧]|语言模型|語言模型|大型)"
    r"|申し訳(?:ありません|ございません|ない)|すみませんが|ごめんなさい|恐れ入りますが"
    r"|죄송(?:하지만|합니다만|합니다)|안타깝게도"
    r"|(?:عذر[اًا]+|آسف|أعتذر)[،,]? ?(?:لا|لكن|ولكن)|לצערי|מצטער(?:ת)?,? (?:אבל )?אני|क्षमा करें|माफ़ करें"
)

NAMELESS: Final = tuple(
    """
    untitled|no title|no name|unnamed|nameless|n/a|na|none|null|nil|undefined|unknown|empty|tbd|title
    name|session title
    session name|conversation title|conversation name|chat title|chat name|new conversation|new chat
    new session|new title|new thread
    conversation|chat|session|thread|discussion|topic|the conversation|a conversation|this conversation
    untitled conversation
    untitled chat|untitled session|untitled document|unnamed session|unnamed conversation
    no conversation|no content|no topic
    not applicable|not available|no answer|no response|nothing|general conversation|user conversation|your title here
    ohne titel|kein titel|unbenannt|titel|name der sitzung|neue unterhaltung|neues gespräch|neuer chat
    gespräch|unterhaltung|keine|keiner
    sans titre|aucun titre|aucun|titre|nouvelle conversation|nouvelle discussion|sin título|sin titulo
    título|ninguno|ninguna
    nueva conversación|conversación|sem título|nova conversa|conversa|nenhum|senza titolo
    nuova conversazione|conversazione|titolo|nessuno
    zonder titel|naamloos|nieuw gesprek|gesprek|bez tytułu|nowa rozmowa|rozmowa|без названия|новый чат
    новый разговор|разговор|нет
    без назви|нова розмова|başlıksız|yeni sohbet|sohbet|adsız
    无标题|未命名|新对话|新会话|新聊天|对话|会话|聊天|标题|无|無標題|新對話|對話|標題|無題|新しい会話|新しいチャット|会話|タイトル|なし
    제목 없음|새 대화|새 채팅|대화|제목|없음|بدون عنوان
    محادثة جديدة|محادثة|ללא כותרת|שיחה חדשה|שיחה|बिना शीर्षक|नई बातचीत|बातचीत
    """.replace("\n", "|")
    .replace("    ", "")
    .strip("|")
    .split("|")
)

MONTHS: Final = (
    r"jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|février|mar(?:ch|s|zo)?|märz|apr(?:il)?|avril|abril|may|mai|mayo"
    r"|june?|juni|juin|junio"
    r"|july?|juli|juillet|julio|aug(?:ust)?|août|agosto|sept?(?:ember)?|septembre|septiembre|o[ck]t(?:ober|obre"
    r"|ubre)?"
    r"|nov(?:ember|embre|iembre)?|de[cz](?:ember)?|décembre|diciembre|gennaio|febbraio|aprile|maggio|giugno"
    r"|luglio|settembre|ottobre"
    r"|dicembre|stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|sierpnia|września|października|listopada"
    r"|grudnia|января|февраля"
    r"|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря"
)

# What a title is made without. The openers are taken off the start of a sentence again and again; blanks in them stand
# for white space. A word with a capital in the middle of a greeting is somebody's name.
_NAME = r"(?-i:(?!I\b)[A-ZÀ-ÖØ-ÞА-ЯŁŚŻĆ][\w.'-]*)"
_WHOM = (
    r"(?:there|sir or madam|sir/madam|my friends?|dear|all|team|everyone|everybody|folks|guys|again|support|sir"
    r"|madam|friends?|bot|assistant|claude|chatgpt|gpt|zusammen"
    r"|leute|team|à tous|tout le monde|a todos|todos|a tutti|tutti|allemaal|wszystkim|всем)"
)

GREETINGS: Final = (
    rf"(?:hi+|hiya|hello(?! (?:world|kitty))|hey+|howdy|yo|greetings|good (?:morning|afternoon|evening|day)|dear"
    rf"|hallo|servus|moin"
    rf"|grüß gott|grüezi|guten (?:morgen|tag|abend)|liebes?|lieber|sehr geehrte[rs]?(?: damen und herren)?|bonjour"
    rf"|bonsoir|salut|coucou"
    rf"|cher|chère|hola|buen[oa]s (?:días|dias|tardes|noches)|buen día|estimad[oa]s?|ciao|salve|buongiorno"
    rf"|buonasera|olá|oi|bom dia"
    rf"|boa (?:tarde|noite)|hoi|goedemorgen|goedemiddag|goedenavond|goedendag|dag|beste|cześć|dzień dobry"
    rf"|dobry wieczór|hej|hejsan"
    rf"|god (?:morgon|morgen|dag)|merhaba|selam|iyi günler|günaydın|здравствуйте|здравствуй|привет|добрый (?:день"
    rf"|вечер)|доброе утро"
    rf"|добрий (?:день|вечір)|доброго дня|вітаю|привіт|γεια(?: σας| σου)?|xin chào|chào(?: bạn)?|halo"
    rf"|selamat (?:pagi|siang|malam)"
    rf"|नमस्ते|नमस्कार|हैलो|হ্যালো|নমস্কার|வணக்கம்|สวัสดี(?:ครับ|ค่ะ)?|مرحبا(?:ً)?|أهلا(?:ً)?|السلام عليكم"
    rf"|صباح الخير|مساء الخير|سلام"
    rf"|שלום(?: לך)?|היי|הי|בוקר טוב|ערב טוב|안녕하세요|안녕하십니까|안녕)(?![\w-])"
    rf"(?: {_WHOM}(?!\w))*(?:,? {_NAME}(?: {_NAME}){{0,2}}(?=\s*[,!.:;\n–—-]|\s*$))?"
    r"|(?:您好|你好|你们好|大家好|早上好|下午好|晚上好|哈喽|嗨|こんにちは|こんばんは|おはよう(?:ございます)?|はじめまして|もしもし|お世話になっております)"
)

INTRODUCTIONS: Final = (
    rf"(?:my name is|my name's|mein name ist|ich heiße|je m'appelle|mon nom est|me llamo|mi nombre es|mi chiamo"
    rf"|meu nome é|me chamo"
    rf"|mijn naam is|nazywam się|меня зовут|benim adım|adım) [^\s,.;!?:]+(?: (?!and\b|und\b|et\b"
    rf"|y\b){_NAME}){{0,2}}(?:,? (?:and|und|et|y|e|i|и))?"
    rf"|(?:this is|i'm|i am|hier ist|ich bin|je suis|soy|sono) {_NAME}(?: {_NAME}){{0,2}}(?=\s*[,.!;]| (?:here"
    rf"|from|at|and)\b)"
    rf"(?: (?:here|(?:from|at) [^,.!;]{{1,40}}))?(?:,? and\b)?"
    r"|(?:我叫|我是)[^，。！,.\s我]{1,6}[，。！,.]"
    r"|(?:私は|わたしは)[^、。]{1,12}(?:です|と申します)[。、]"
    r"|(?:제 이름은|저는) [^,.]{1,12}(?:입니다|예요"
    r"|이에요)[,.]"
)

FILLERS: Final = (
    r"(?:so(?! (?:far|long|much|many|called))|ok|okay|okey|um+|uh+|er+m*|hm+|yes|yeah|yep|please|pls|plz|kindly"
    r"|actually|basically|just"
    r"|also|anyway|and|but|then|excuse me|pardon me|quick question|another question|one (?:more )?question|i see"
    r"|you see|look|listen"
    r"|sorry to (?:bother|disturb) you|sorry for the (?:trouble|bother)|if possible|hope you(?:'re| are) (?:well"
    r"|doing well|good)"
    r"|i hope (?:you(?:'re| are)|this finds you) (?:well|doing well)|how are you(?: doing)?(?: today)?"
    r"|are you there|anyone there"
    r"|is (?:anyone|anybody|someone) there|thanks(?: (?:in advance|again|so much|a lot|for (?:your|the) help))?"
    r"|thank you(?: (?:in advance|"
    r"so much|very much|again|for (?:your|the) help))?|thx|cheers|testing|test|ping|also bitte|bitte"
    r"|danke(?:schön)?|vielen dank|äh+m?|tja"
    r"|naja|entschuldigung|entschuldigen sie|wie geht(?:'s| es (?:dir|ihnen))|s'il (?:vous|te) pla[iî]t|svp"
    r"|merci(?: beaucoup)?|euh|alors"
    r"|excusez-moi|ça va|comment (?:ça va|allez-vous)|por favor|gracias|muchas gracias|disculpe|disculpa|perdón"
    r"|pues|bueno|oye|qué tal"
    r"|cómo estás?|per favore|per piacere|grazie|scusi|scusa|allora|come (?:va|stai)|obrigad[oa]|desculpe|então"
    r"|tudo bem|alstublieft"
    r"|alsjeblieft|bedankt|dank (?:je|u)|dus|proszę|dziękuję|przepraszam|więc|lütfen|teşekkürler|teşekkür ederim"
    r"|пожалуйста|спасибо"
    r"|извините|простите|ну|так|как дела|подскажите|скажите|будь ласка|дякую|вибачте|जी|कृपया|धन्यवाद|من فضلك"
    r"|لو سمحت|رجاءً|شكرا(?:ً)?"
    r"|بواسطة|בבקשה|תודה(?: רבה)?|סליחה|저기요|감사합니다|고맙습니다|죄송합니다|죄송하지만|혹시)(?![\w-])"
    r"|(?:well|now|first|first of all|right|alright|all right|sure|great|perfect|cool|fine|no problem|no worries"
    r"|of course|oh|ah|sorry"
    r"|hmm|also|yes|listen|thing is|na ja|ja|gut|oui|bon|sí|si|claro|vale|va bene|bem|sim|goed"
    r"|nou)(?=\s*[,.!:;…?]|\s*$)"
    r"|(?:请问一下|请问|請問|请|請|麻烦(?:你|您)?|谢谢(?:你|您)?|謝謝|不好意思|打扰一下|打扰了|在吗|在嗎|测试(?:一下)?(?=[，。！\s]|$)|那个|嗯+|好的|哦"
    r"|すみませんが?|すいません|申し訳ありませんが|恐れ入りますが|お願いします|ありがとうございます|ありがとう|えっと|あの[、ー]|テスト(?=[。！\s]|$)"
    r"|테스트(?=[.!\s]|$))"
)

_KINDLY = (
    r"(?:please |kindly |just |quickly |maybe |perhaps |possibly |really |also |still |only |now |so |very |simply "
    r"|urgently )*"
)
_TELL = (
    r"(?:tell me(?: about)?|let me know(?: about)?|(?:explain|show|describe)(?: to)? me|give me(?: some)?|get me"
    r"|find me|advise(?: me)?(?: on)?"
    r"|explain(?= (?:why|how|what|where|when|whether|the|a|an)\b)|assist(?: me)?(?: with| in)?|guide me(?: on"
    r"| through)?|walk me through"
    r"|help(?: me| us)?(?: out)?(?: with| to| in)?)"
)
_FEEL = (
    r"(?:upset|frustrated|angry|annoyed|confused|worried|concerned|disappointed|stuck|curious|interested|unhappy"
    r"|furious|mad|desperate)"
)

WRAPPERS: Final = (
    # What somebody wishes, asks or needs, up to the wish itself.
    rf"(?:i|we)(?:'d| would| should)? {_KINDLY}(?:like|love|prefer|want|wish|need|have|hope|intend|plan|try|wanted"
    rf"|wished|needed|mean)"
    rf" {_KINDLY}(?:(?:for )?you )?to {_KINDLY}(?:(?:know|learn|hear|ask(?: you)?|find out)(?: more)? about(?!\w)"
    rf"|(?:ask(?: you)?|know|see|understand|find out|learn|{_TELL})"
    r"(?= (?:if|whether|how|what|why|when|where|who|which|the|a|an|about|more|my|your|our)\b))"
    rf"|(?:i|we)(?:'d| would| should)? {_KINDLY}(?:like|love|prefer|want|wish|need|hope|intend|plan|wanted|wished"
    rf"|needed)"
    rf" {_KINDLY}(?:(?:for )?you )?to(?: please| just| also| quickly| maybe| be able to| try to| have"
    rf"| get help (?:with|to))?(?!\w)"
    rf"|(?:i|we)(?:'m| am|'re| are|'ve been| have been| was| were| had been) {_KINDLY}(?:looking|hoping|trying"
    rf"|planning|going|wanting|aiming"
    r"|thinking|wondering|writing|calling|reaching out|checking|searching|asking|contacting you|interested"
    r"|inquiring|struggling|working|supposed)"
    r"(?: to| for| if| whether| about| of| on| in| with| because| regarding| how| at)?(?: (?:you|someone|anyone"
    r"|we|i|it)"
    r"(?:'d| would|'s| is| can| could| might| may)?(?: be able to| possible to| please)?(?: to)?)?(?!\w)"
    rf"|(?:i|we)(?:'m| am|'re| are|'ve| have|'ve got) {_KINDLY}(?:having|getting|seeing|facing|experiencing"
    rf"|encountering|running into|dealing with"
    r"|in need of|after|unable to get)(?: (?:a bit of|some|an?))?(?: (?:situation|trouble|difficult(?:y|ies)"
    r"|hard time) with)?(?!\w)"
    rf"|(?:i|we)(?:'m| am|'re| are| feel) {_KINDLY}{_FEEL}(?: (?:right now|now|today|here))?(?: (?:because|that"
    rf"|about|with|by|as|in|since|at|on|how))?(?!\w)"
    rf"|(?:i|we) {_KINDLY}(?:need|want|require|have|had|got|could use|would like"
    rf"|would appreciate)(?: to have)?(?: {_KINDLY}(?:some|any|your|a bit of|a little|urgent))?"
    r" {0,1}(?:help|assistance|support|advice|guidance|a hand|an? (?:quick |small |simple |general "
    r"|short )?(?:questions?|query|request|favou?r)|(?:some |a few )?questions)"
    r"(?: (?:with|in|on|about|for|regarding|to|from you|concerning|of yours))?(?!\w)"
    rf"|(?:i|we)(?:'d| would)? {_KINDLY}(?:like|love|want|need|have|got|require|prefer)(?: {_KINDLY})?(?= (?:an?"
    rf"|the|my|our|some|this|these|two|three|all|more)\b)"
    rf"|(?:i|we) (?:was|were) (?:just )?(?:wondering|hoping|thinking)(?: if| whether| that| about)?(?!\w)"
    rf"|(?:(?:can|could|would|will|might) (?:you|u|someone|anyone|somebody|anybody)|(?:can|could|may) (?:i|we))"
    rf"(?: (?:please|kindly|just|quickly|maybe|perhaps|possibly|also))*(?: be able to| be so kind (?:as )?to"
    rf"| mind)?(?: {_TELL})?(?!\w)"
    r"|(?:are you able to|is it possible (?:to|for (?:me|you) to)|is there (?:a|any) way (?:to|for (?:me|you) to"
    r"|i can|you can)"
    r"|do you know(?: of)?|do you have|would it be possible (?:to|for (?:me|you) to)|would you mind|help(?: me"
    r"| us)(?: out)?(?: with| to)?|help with"
    r"|(?:(?:i want )?you (?:are|will|to)(?: act as)?|act as|pretend to be) an? [^.,\n]{2,60}[.,]|"
    r"(?:tell|show|give) me(?: about)?|let me know|let's|i wonder(?: if| how| why| what| whether)?"
    r"|i don't (?:know|understand)|i can't figure out|any idea"
    r"|i think(?: that)?|i believe(?: that)?|i guess(?: that)?|it (?:seems|looks like|appears)(?: that)?"
    r"|the (?:problem|issue|thing) is(?: that)?"
    r"|it's (?:about|regarding)|it is (?:about|regarding)|regarding|concerning|what i (?:need|want) is(?: to)?"
    r"|my question is(?: about)?|question(?: about|:)"
    r"|i (?:get|got|keep getting|see|receive)(?: this| the following| an?)(?: error"
    r"| exception)?(?: message)?(?: [^:\n]{0,40})?:)(?!\w)"
    r"|ich (?:möchte|würde|will|wollte|brauche|hätte|suche)(?: gerne?| mal| bitte)*(?: (?:wissen|fragen"
    r"|erfahren),?(?: ob)?| hilfe (?:bei|mit)"
    r"| eine frage(?: zu[rm]?)?)?"
    r"|(?:könntes?t?|könnten|kannst|können|würdest|würden) (?:du|sie|ihr)(?: mir| uns)?(?: bitte| mal"
    r"| vielleicht)*(?: (?:dabei )?helfen,?|(?: sagen| erklären),?)?"
    r"|ich habe (?:eine frage(?: zu[rm]?)?|ein(?= problem))|hilf mir(?: bitte)?(?: bei| mit)?"
    r"|mir ist nicht klar,?|kann (?:ich|man)(?: bitte)?"
    r"|je (?:voudrais|veux|souhaite(?:rais)?|cherche(?: à)?|aimerais)(?: bien)?(?: savoir(?: si)?)?|j'(?:aimerais"
    r"|ai besoin (?:d'aide (?:pour|avec)|de|d'))"
    r"|(?:pourriez|pouvez|pourrais|peux)[- ](?:vous|tu)(?: s'il vous plaît)?(?: (?:m'aider (?:à|avec)|me dire"
    r"|m'expliquer|me))?|est-ce que (?:vous pouvez|tu peux|je peux)"
    r"|j'ai (?:une question(?: sur)?|un(?= problème))|aidez-moi(?: à)?|aide-moi(?: à)?"
    r"|(?:me gustaría|quisiera|quiero|necesito|querría|deseo|busco)(?: saber(?: si)?| ayuda (?:con|para))?"
    r"|(?:me )?(?:podría|podrías|puedes|puede)s?"
    r"(?: (?:ayudarme (?:a|con)|decirme|explicarme|por favor))?|tengo (?:una pregunta(?: sobre)?|un(?= problema))"
    r"|ayúdame (?:a|con)"
    r"|(?:vorrei|voglio|ho bisogno di|mi piacerebbe|desidero)(?: sapere(?: se)?)?|(?:potrebbe|potresti|puoi"
    r"|può)(?: (?:aiutarmi (?:a|con)|dirmi|spiegarmi))?"
    r"|(?:eu )?(?:gostaria de|queria|quero|preciso(?: de)?)(?: saber(?: se)?| ajuda (?:com|para))?"
    r"|(?:você )?(?:poderia|pode)(?: (?:me ajudar (?:a|com)|me dizer|me))?"
    r"|ik (?:wil|zou|wou)(?: graag)?(?: weten(?: of)?)?|(?:kun|kunt|kan|zou) (?:je|u|jij)(?: mij"
    r"| me)?(?: (?:alsjeblieft|helpen (?:met|om)))?|ik heb (?:een vraag over|hulp nodig (?:bij|met))"
    r"|(?:chciał[a]?bym|chcę|potrzebuję(?: pomocy (?:z|w|przy))?)|(?:czy )?(?:mógłbyś|mogłabyś|może pan|może pani"
    r"|możesz)(?: mi)?(?: pomóc(?: z| w)?| powiedzieć)?"
    r"|я (?:хочу|хотел(?:а)? бы|бы хотел(?:а)?)(?: узнать| спросить)?,?|мне (?:нужно|надо|нужна помощь (?:с|в)"
    r"|необходимо)|(?:не могли бы вы|можете(?: ли вы)?|можешь|помогите(?: мне)?|помоги)"
    r"(?: помочь(?: мне)?(?: с)?| подсказать,?| сказать,?)?|хотел[а]? бы|у меня вопрос(?: по| о)?"
    r"|я (?:хочу|хотів би|хотіла б)|мені (?:потрібно|треба)|(?:чи )?(?:можете|можеш|допоможіть)(?: мені)?"
    r"|bana|benim için|मुझे|मैं|क्या आप(?: मेरी| मुझे)?|أريد(?: أن)?|أرغب في|هل يمكنك|هل تستطيع|ممكن"
    r"|أحتاج(?: إلى)?|אני (?:רוצה|צריך|צריכה|מבקש)|(?:תוכל|תוכלי|אפשר|האם אפשר)(?: לעזור לי)?"
    r"|tôi (?:muốn|cần)|saya (?:ingin|mau|perlu)|θα ήθελα(?: να)?|θέλω(?: να)?|jag (?:vill|behöver|skulle vilja)"
    r"|jeg (?:vil gerne|vil|ønsker å)"
    r"|(?:저는 )?(?:저의|제가|나는|좀)"
)

UNSPACED_WRAPPERS: Final = (
    r"(?:想(?:要|请问?|咨询(?:一下)?|问(?:一下)?|了解(?:一下)?)|(?:ผม|ฉัน|ดิฉัน)?(?:อยาก|ต้องการ)(?:จะ|ให้)?|ช่วย|我(?:现在"
    r"|現在)?(?:想要|想|需要|要|希望)(?:请?问(?:一下)?|知道|了解(?:一下)?|问(?:一下)?|你(?:帮我?|帮忙)?)?|(?:你|您)?(?:能不能|能否|可不可以|可以"
    r"|能)(?:请)?(?:帮(?:我|忙)?|幫我|告诉我|告訴我)?(?:一下)?"
    r"|(?:你|您)?(?:帮我|帮忙|幫我|帮)(?:一下|看看|查一下|查)?|给我|給我|告诉我|告訴我|关于|關於|我有(?:一)?个问题[，：:,]?|如果可以的话)"
)

TAILS: Final = (
    r",? ?(?:please|pls|plz|thanks(?: (?:in advance|so much|a lot|again))?|thank you(?: (?:in advance|so much"
    r"|very much))?|thx|asap"
    r"|(?:if|when) (?:that's |it's |it is |that is )?possible|if you (?:can|could)|for me|right now|right away"
    r"|as soon as possible"
    r"|can you help(?: me)?|bitte|danke|s'il (?:vous|te) pla[iî]t|svp|merci|por favor|gracias|per favore|grazie"
    r"|obrigad[oa]|alstublieft|alsjeblieft"
    r"|proszę|dziękuję|lütfen|istiyorum|istiyoruz|(?:eder|ede)bilir misiniz|пожалуйста|спасибо|будь ласка|дякую"
    r"|(?:करना )?चाहता हूँ|(?:करना )?चाहती हूँ|बताइए|من فضلك|لو سمحت|شكرا|בבקשה|תודה)"
    r"|[,，、 ]?(?:谢谢(?:你|您)?|謝謝|可以吗|可以嗎|好吗|好嗎|行吗|吧"
    r"|(?:について|を|のか)?(?:教えて|知りたい)(?:ください|下さい|いただけますか|もらえますか|くれますか|欲しい|ほしい|です|のですが)*"
    r"|をお願い(?:いたします|します|できますか)|(?:ください|下さい|お願いします|(?:いただけ|もらえ|くれ)ますか|たいのですが|たいです)"
    r"|(?: ?좀)? ?(?:알려 ?주세요|알려 ?주실 수 있나요|부탁드립니다|부탁합니다|부탁해요"
    r"|주세요|주실 수 있나요|주시겠어요|싶어요|싶습니다))"
)

REQUEST: Final = (
    r"(?:i|we)(?:'d| would)? (?:really |also |just |now )*(?:like|love|want|need) to|need to|want to"
    r"|(?:i|we)(?:'m| am|'re| are| was| were) (?:really |also |just )*(?:looking|hoping|trying) to"
    r"|(?:can|could|would) (?:you|i|we) (?:please |kindly |also )*(?:help (?:me|us) (?:to |with )?|tell (?:me|us) )?"
)

REASONS: Final = (
    r",? (?:because|since|so that|in order to|as i|as we|due to|but|although|though|unless|which|if that's"
    r"|if it's|if this|and i|and we|and would"
    r"|and could|and can|and get|and need|and want|and i'd|and also|weil|damit|aber|parce que|car|mais|porque"
    r"|pero|perché|mas|omdat|maar|ponieważ|ale|потому что|но|так как)\b"
    r"|[;:—–…] ?|, (?:so|and|and then|then|or|could|can|would|is|please|which|where|who|how|what|i|we|it|my)\b"
    r"| - |[，；：]"
)

VAGUE: Final = frozenset(
    """
    a an the my our your his her this that these those it its them they some any few couple bit lot
    little more something anything someone anyone
    thing things stuff issue issues problem problems question questions query trouble error errors
    following situation matter request
    change changes changing make making adjust modify update assist assistance help helping with to for
    of on in at about and or is are was were be been do does did
    can could would will you i me we us please need want get got have has having go ask asking tell
    know look looking check checking here there
    so quick now today just also really very new good great nice fine proceed what if possible how up
    out one two let see sure not no yes
    hi hello hey test testing ok okay thanks thank welcome bye goodbye morning afternoon evening night
    ping yo sup dear sir madam team again
    ein eine einen mein meine das die der etwas frage fragen problem hilfe helfen ist sind ja nein mit
    bei zu bitte danke hier da jemand
    un une mon ma le la les de des question problème aide aider est avec pour oui non
    una uno mi el los las algo pregunta problema ayuda ayudar es con para sí no
    um uma meu minha o os as algo pergunta ajuda com para sim não il lo domanda aiuto di con per che
    een mijn het de vraag probleem hulp met over voor ja nee to jest pytanie pomoc mi mam
    это мой вопрос проблема помощь у меня есть да нет ты вы тут здесь помоги помогите с по
    """.split()
)

VAGUE_UNSPACED: Final = frozenset(
    """
    问题 問題 一个问题 帮助 帮忙 忙 我 你 吗 在 在吗 有人吗 一下 这个 事 質問 質問があります 助けて 질문 질문이 도와
    도움
    """.split()
)

FUNCTION: Final = frozenset(
    """
    a an the my our your his her its their this that these those to for of on in at by with from into
    onto about as and or nor but if than then so because since
    while when where which who whom whose what how why is are was were be been being am will would can
    could should shall may might must do does did have has had
    i we you he she it they me us him them not no very more most some any each every both upcoming next
    last current recent own new via per between within
    without under over after before until till during through against among i'm i'd i'll it's there
    there's using currently really also just please
    ein eine einen einem einer eines der die das den dem des mein meine meinen meinem meiner und oder
    aber für von zu zum zur mit auf in im am an bei ohne über nach vor aus als wie ist sind
    un une le la les l' de des du d' mon ma mes et ou à au aux en dans sur avec pour par sans que qui est
    el los las una unos unas mi mis y o u e del al con para por sin sobre en que es
    il lo gli i uno di del della dei delle da dal alla al nel nella per con su tra fra che ed mio mia
    o os as um uma do da dos das no na nos nas com em seu sua meu minha
    een het van voor met op bij en of mijn naar over te
    z ze w we na do od dla i oraz lub że się o po przez mój moja moje
    и или в во на с со к ко от до из за для по о об у не что как мой моя мои моё
    і й або в у на з до від для по про що як мій моя
    ve veya ile için bir bu
    """.split()
)

CONJUNCTIONS: Final = frozenset("and or & und oder et ou y o e en of i lub и или ve veya".split())
