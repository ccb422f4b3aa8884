"""
The fixed words of documents, in Chinese and English.

They stand here and not in the message catalogues, because an issued document must not read otherwise after a
translation is improved: a change of wording is a change of this file.
"""

from enum import StrEnum

from django.utils.translation import get_language

from billing.domain.token_classes import SHORT


class Language(StrEnum):
    """The languages of documents."""

    ZH = "zh"
    EN = "en"


_TERMS: dict[str, tuple[str, str]] = {
    "title.invoice": ("账单", "Invoice"),
    "title.statement": ("结算单", "Settlement statement"),
    "title.credit_note": ("贷项通知单", "Credit note"),
    "title.debit_note": ("借项通知单", "Debit note"),
    "house": ("词元 · 推理算力现货交易所", "Ciyuan – spot exchange for inference tokens"),
    "number": ("编号", "Number"),
    "issued": ("出具日期", "Issued"),
    "period": ("账期", "Period"),
    "cycle": ("结算方式", "Billed"),
    "cycle.settlement": ("按交割结算", "per settlement"),
    "cycle.daily": ("按日", "daily"),
    "cycle.weekly": ("按周", "weekly"),
    "cycle.monthly": ("按月", "monthly"),
    "currency": ("币种", "Currency"),
    "cny": ("人民币（含税）", "CNY, VAT included"),
    "refers_to": ("对应原单", "Corrects"),
    "seller": ("销售方", "Seller"),
    "buyer": ("购买方", "Buyer"),
    "operator": ("交易所（购买方）", "Exchange (buyer)"),
    "provider": ("供应方（销售方）", "Provider (seller)"),
    "tax_number": ("纳税人识别号", "Tax number"),
    "address": ("地址", "Address"),
    "phone": ("电话", "Phone"),
    "bank": ("开户银行", "Bank"),
    "account": ("银行账号", "Account"),
    "separator": (" · ", ", "),
    "separator.title": (" · ", " – "),
    "column.number": ("序号", "No."),
    "column.item": ("项目", "Item"),
    "column.tokens": ("词元用量（原始）", "Raw tokens"),
    "column.standard": ("标准词元", "Standard tokens"),
    "column.price": ("单价", "Unit price"),
    "column.price_unit": ("元/词元", "¥/token"),
    "column.million": ("元/百万", "¥/million"),
    "column.amount": ("金额（元）", "Amount (¥)"),
    "kind.used": ("已交割推理服务", "Delivered inference"),
    "kind.unused": ("未使用词元（照付不议）", "Unused (take-or-pay)"),
    "kind.undelivered": ("未交付词元", "Undelivered tokens"),
    "kind.disputed": ("暂缓结算词元", "Tokens held back"),
    "kind.overage": ("合约外超量", "Usage beyond contract"),
    "kind.list": ("按目录价使用", "Usage at list price"),
    "kind.trading_difference": ("买卖差价", "Trading difference"),
    "kind.penalty": ("违约金", "Penalty"),
    "kind.compensation": ("未交付差价补偿", "Compensation of the price difference"),
    "kind.replacement": ("替代采购成本", "Cost of replacement"),
    "kind.from_bond": ("由保证金承担", "Borne by the bond"),
    "late_month": ("{month} 月的用量，该月已结账", "usage of {month}, a month that was closed"),
    "kind.allowance": ("销售折让", "Allowance"),
    "kind.from_default": ("由运营方违约账户承担", "Borne by the operator's default account"),
    "kind.probe": ("交易所探测请求", "The exchange's own requests"),
    "kind.platform_fee": ("平台服务费", "Platform fee"),
    "token.input": ("输入", "input"),
    "token.cached_input": ("缓存输入", "cached input"),
    "token.output": ("输出", "output"),
    "token.reasoning": ("推理输出", "reasoning"),
    "token.requests": ("请求数", "requests"),
    "token.input.image": ("图像输入", "image input"),
    "token.input.audio": ("音频输入", "audio input"),
    "token.input.video": ("视频输入", "video input"),
    "token.input.image.cache_read": ("图像输入（缓存）", "cached image input"),
    "token.input.audio.cache_read": ("音频输入（缓存）", "cached audio input"),
    "token.input.video.cache_read": ("视频输入（缓存）", "cached video input"),
    "token.input.text.cache_write_5m": ("缓存写入（5 分钟）", "cache write (5 min)"),
    "token.input.text.cache_write_1h": ("缓存写入（1 小时）", "cache write (1 h)"),
    "token.output.image": ("图像输出", "image output"),
    "token.output.audio": ("音频输出", "audio output"),
    "token.output.video": ("视频输出", "video output"),
    "token.output.rejected_draft": ("草稿（不计费）", "rejected drafts (free)"),
    "token.search_calls": ("搜索次数", "searches"),
    "token.images": ("图像张数", "images"),
    "token.audio_ms": ("音频毫秒", "audio, ms"),
    "token.video_ms": ("视频毫秒", "video, ms"),
    "token.cache_storage_token_hours": ("缓存存储（词元·小时）", "cache storage, token-hours"),
    "contract": ("合约 {contract}", "Contract {contract}"),
    "lot": ("批次 {lot}", "lot {lot}"),
    "market": ("市场 {market}", "market {market}"),
    "auction": ("集合竞价 {auction}", "auction {auction}"),
    "take_or_pay": ("照付不议：计收价款的 {share}", "take-or-pay: {share} of the price is kept"),
    "undelivered": ("未交付，不计费", "not delivered, not charged"),
    "disputed": ("计量不一致，待裁定，暂不计费", "the meters disagree; not charged until a ruling"),
    "late": ("迟缓小时价款减收 {share}", "{share} off the price of hours in which a promised time was missed"),
    "penalty": ("未交付词元价款的 {share}", "{share} of the price of what was not delivered"),
    "compensation": ("买方价款超出贵方价款的部分", "what the buyer's price exceeded yours by"),
    "by_book": ("价目表 {book}：{rule}", "price book {book}: {rule}"),
    "replacement": ("由合约 {contract} 替代交割", "delivered by contract {contract} instead"),
    "from_bond": ("上列款项中由贵方保证金支付的部分", "what your bond paid of the above"),
    "from_default": ("上列款项中由运营方垫付的部分", "what the operator paid of the above"),
    "probe": ("由运营方违约账户按合约价支付", "paid by the operator's default account at the contract's price"),
    "supply_total": ("服务金额合计", "Services, total"),
    "fee_total": ("平台服务费合计", "Platform fees, total"),
    "net": ("不含税金额", "Net"),
    "tax": ("税额（增值税 {rate}）", "VAT {rate}"),
    "gross": ("价税合计", "Gross"),
    "rounding": ("其中：取整到分", "of which rounding to the fen"),
    "capitals": ("大写", "In capitals"),
    "total.invoice": ("应付总额", "Total"),
    "total.statement": ("应结算金额", "Payable to provider"),
    "total.credit_note": ("贷记金额", "Credited"),
    "total.debit_note": ("补记金额", "Debited"),
    "to_invoice": ("请贵司向交易所开具发票金额", "To be invoiced to the exchange"),
    "prepaid": ("已由预付款支付", "Paid from deposit"),
    "due": ("待付金额", "Amount due"),
    "due_on": ("付款期限", "Due on"),
    "state.paid": ("已结清", "Settled"),
    "state.due": ("待付款", "Payment due"),
    "note.prices": (
        "所有价格与金额均含增值税。标准词元（{version}）按公布公式计量推理计算量，不代表质量或速度。",
        "All prices and amounts include VAT. A standard token ({version}) measures nominal computing work by a"
        " published formula; it says nothing of quality or speed."),
    "note.rounding": (
        "各行金额先按微元精确汇总，总额一次四舍五入到分，再按最大余数法分配到各行，故各行之和等于总额。",
        "Lines are summed exactly and rounded to the fen once; printed lines are apportioned by largest remainder and "
        "add up to the total."),
    "note.not_tax_invoice.buyer": (
        "本账单不是发票；数电发票另行开具。",
        "This bill is not a Chinese tax invoice (发票); that one is issued separately."),
    "note.not_tax_invoice.provider": (
        "本结算单不是发票；请按“请贵司向交易所开具发票金额”开具发票，平台服务费由交易所另行开票。",
        "This statement is not a tax invoice (发票): please invoice the amount named above; the exchange invoices its"
        " fee separately."),
    "note.drill": (
        "每行可在线追溯至合约、批次、成交与计量事件：",
        "Each line can be traced online to contract, lot, trade and metered events: "),
    "title.reconciliation": ("对账单", "Reconciliation statement"),
    "total.balance": ("期末余额", "Closing balance"),
    "month": ("对账月份", "Month"),
    "statement_digest": ("核对码", "Check code"),
    "answer": ("确认情况", "Answer"),
    "answer.none": ("未确认", "not given yet"),
    "answer.agrees": ("已确认", "confirmed"),
    "answer.disagrees": ("有异议", "objected to"),
    "account_of": ("对账方", "Account of"),
    "kept_by": ("出具方", "Kept by"),
    "row.time": ("时间（北京）", "Time (Beijing)"),
    "row.kind": ("类型", "Kind"),
    "row.reference": ("单号 / 流水号", "Reference"),
    "row.billed": ("账单金额（元）", "Billed (¥)"),
    "row.paid_in": ("收款金额（元）", "Paid in (¥)"),
    "row.balance": ("余额（元）", "Balance (¥)"),
    "entry.opening": ("期初余额", "opening"),
    "entry.closing": ("本期合计与期末余额", "closing"),
    "entry.invoice": ("账单", "invoice"),
    "entry.credit_note": ("贷项通知单", "credit note"),
    "entry.debit_note": ("借项通知单", "debit note"),
    "entry.payment": ("收款", "payment"),
    "entry.refund": ("退款", "refund"),
    "entry.set_off": ("以结算款抵扣", "set off"),
    "note.balance": (
        "余额 = 收款 − 账单，自开户起累计；正数为预付款余额，负数为尚欠金额。尚未出账的用量不在其内。",
        "Balance = paid in less billed, since the account was opened: above zero it is money paid ahead, below zero it"
        " is owed. Usage that is on no document yet is not part of it."),
    "note.statement_digest": (
        "核对码是本月对账数据的 SHA-256；内容有任何变化，核对码即不同。在线确认以核对码为准。",
        "The check code is the SHA-256 of this month's rows: any change of them changes it. An answer given online"
        " names it."),
    "stamp.kept_by": ("出具方（盖章）", "For the exchange (stamp)"),
    "stamp.account_of": ("对账方（盖章确认）", "Confirmed by (stamp)"),
    "signed": ("日期：", "Date:"),
    "page": ("第 {page} 页，共 {pages} 页", "page {page} of {pages}"),
    "shanghai": ("北京时间", "Beijing time"),
}


def page_language() -> Language:
    """Return the language in which the page that is asked for is read."""
    return Language.ZH if (get_language() or "zh").startswith("zh") else Language.EN


def token_names(language: Language) -> dict[str, str]:
    """Return what counts are called, by their class in charges and by the name that documents use."""
    names = {name.removeprefix("token."): term(name, language) for name in _TERMS if name.startswith("token.")}
    return names | {raw: names[short] for raw, short in SHORT.items()}


def term(name: str, language: Language, **values: str) -> str:
    """Return a document's fixed wording; an unknown token class or kind stands for itself."""
    pair = _TERMS.get(name)
    if pair is None:
        return name.rpartition(".")[2].replace("_", " ")
    text = pair[0] if language is Language.ZH else pair[1]
    return text.format(**values) if values else text
