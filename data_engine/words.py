"""A few hundred words per language, so that pages and charts can be made without any corpus.

Meaning does not matter here: a text that cannot be guessed must be read. The words are ordinary ones and
their order is random.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_engine.random_stream import Stream


@dataclass(frozen=True)
class Language:
    """What sentences, titles and tables of one language are made of."""

    code: str
    words: tuple[str, ...]
    """For running text."""
    measures: tuple[str, ...]
    """Things that are counted: names of series and titles of charts."""
    categories: tuple[tuple[str, ...], ...]
    """Sets of names that stand side by side on an axis, each of twelve or more."""
    separator: str
    """Between words."""
    comma: str
    stop: str


def sentence(language: Language, stream: Stream, words: int) -> str:
    """A sentence of `words` random words, with a comma or a number in it now and then."""
    parts: list[str] = []
    for place in range(words):
        # Two numbers in a row would run together where no blank is written.
        if 0 < place < words - 1 and not parts[-1][-1].isdigit() and stream.chance(0.06):
            part = str(stream.integer(2, 9999))
        else:
            part = stream.choice(language.words)
        if 2 <= place < words - 2 and stream.chance(0.12):
            part += language.comma
        parts.append(part)
    text = language.separator.join(parts) + language.stop
    return text[:1].upper() + text[1:]


def heading(language: Language, stream: Stream, words: int) -> str:
    """A few words without a stop, each capitalised where the language has capitals."""
    return language.separator.join(stream.choice(language.words).capitalize() for _ in range(words))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENGLISH = Language(
    code="en",
    words=_listed(
        """
        the of and to in is that for it as was with on by this be from at or which an are not have their
        has more than other some time these two may first then them only its over new after most made
        also many before must through years where much way well down should because each people how
        little state good very make world still own see work long get here between both life being under
        never day same another know while last might us great old year off come since against go came
        right used take three small house place during without again home around however found part once
        general high upon school every far water always number night point hand side public early river
        garden letter market forest winter summer window bridge paper stone mountain island harbour
        village engine valley morning evening teacher doctor student farmer artist writer captain
        history science music language weather travel journey kitchen bread butter apple orange silver
        golden copper simple narrow broad heavy quiet bright distant ancient modern careful useful
        common central northern southern eastern western measure record report produce carry gather
        follow answer remember describe compare collect deliver protect repair explore discover improve
        increase reduce prepare receive return observe method result figure table value model signal
        sample energy motion pressure surface volume current circle corner colour pattern season
        """
    ),
    measures=_listed(
        """
        Revenue Growth Exports Imports Rainfall Output Demand Users Sales Emissions Traffic Budget Yield
        Score Energy Freight Tourism Housing Wages Savings Visitors Orders Profit Costs Stock Students
        Births Trees
        """
    ),
    categories=(
        _listed("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"),
        _listed(
            """
            Germany France Spain Italy Japan Brazil Canada India Kenya Norway Mexico Egypt Chile Peru
            """
        ),
        _listed(
            """
            Apples Pears Plums Cherries Grapes Melons Lemons Figs Dates Kiwis Limes Mangos Berries
            """
        ),
        _listed("2012 2013 2014 2015 2016 2017 2018 2019 2020 2021 2022 2023 2024 2025"),
        _listed("North South East West Centre Coast Hills Lakes Plains Islands Delta Valley"),
    ),
    separator=" ",
    comma=",",
    stop=".",
)

CHINESE = Language(
    code="zh",
    words=_listed(
        """
        我们 他们 时间 地方 问题 工作 学习 生活 世界 中国 历史 文化 科学 技术 经济 社会 城市 农村 学校
        老师 学生 朋友 家庭 孩子 父母 健康 医院 医生 音乐 电影 图书 文章 语言 文字 故事 新闻 信息 数据
        模型 方法 结果 系统 研究 发展 变化 增长 减少 提高 降低 开始 结束 继续 希望 认为 知道 发现 看到
        听见 说明 表示 解决 使用 需要 可以 应该 已经 正在 可能 非常 比较 特别 一般 主要 重要 简单 复杂
        新的 旧的 大的 小的 高山 河流 大海 森林 天空 太阳 月亮 星星 春天 夏天 秋天 冬天 早上 晚上 今天
        明天 昨天 每年 去年 今年 火车 飞机 汽车 道路 桥梁 房屋 窗户 桌子 椅子 茶叶 米饭 水果 蔬菜 苹果
        面包 咖啡 商店 市场 公司 银行 价格 质量 服务 产品 客户 管理 计划 目标 条件 环境 资源 能源 安全
        法律 政策 政府 人民 国家 国际 合作 的 了 在 和 与 对 从 把 被 向 也 都 就 还 又 很 更 最 不 没有
        """
    ),
    measures=_listed(
        """
        收入 增长 指数 出口 进口 降水量 产量 需求 用户数 销售额 排放量 流量 预算 收益 得分 能源 货运量
        游客 住房 工资 储蓄 订单 利润 成本 库存 学生数 出生率 树木
        """
    ),
    categories=(
        _listed("北京 上海 广州 深圳 成都 杭州 武汉 西安 南京 重庆 天津 苏州"),
        _listed("一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月"),
        _listed("苹果 香蕉 葡萄 西瓜 桃子 梨 橙子 樱桃 草莓 芒果 柠檬 荔枝"),
        tuple(f"{year}年" for year in range(2012, 2026)),
    ),
    separator="",
    comma="，",
    stop="。",
)

LANGUAGES = {language.code: language for language in (ENGLISH, CHINESE)}
